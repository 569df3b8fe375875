// The guard's map operations, packet by packet, written by hand in C: what the same work costs without Rust.
// Names and layouts are those of proxy-ebpf/src/abi.rs.
#include "xdp.h"

struct counters {
    u64 packets, bytes, last_seen, dropped, syns, syns_retransmitted, handshakes, handshakes_unseen, failed_by[7], untracked, fins,
        rsts;
};

struct seen {
    struct counters counters;
    u64 place; // generation << 32 | index
};

struct stranger {
    u64 packets, syns, last_seen;
};

struct settings {
    u32 version, mode;
    u64 since, interval, tolerance, netns;
    u32 generation_v4, generation_v6, sees_answers, has_allowed;
    u64 senders[32];
};

struct attempt_key {
    u64 source[2];
    u32 sequence;
    u16 source_port, reserved;
};

struct attempt {
    u64 phase, deadline, answers;
    u32 index, answer_sequence;
    u8 is_watched, is_reset, is_refused, is_acknowledged, is_repeated, reserved[3];
};

#define MAP(name, map_type, entries, key_type, value_type) \
    struct {                                               \
        UINT(type, map_type);                              \
        UINT(max_entries, entries);                        \
        TYPE(key, key_type);                               \
        TYPE(value, value_type);                           \
    } name SEC(".maps")

MAP(COUNTERS, BPF_MAP_TYPE_PERCPU_ARRAY, 4096, u32, struct counters);
MAP(PORTS, BPF_MAP_TYPE_ARRAY, 1024, u32, u64);
MAP(SETTINGS, BPF_MAP_TYPE_ARRAY, 1, u32, struct settings);
MAP(SEEN, BPF_MAP_TYPE_LRU_HASH, 4096, u64, struct seen);
MAP(PROVEN, BPF_MAP_TYPE_HASH, 4096, u64, struct seen);
MAP(STRANGERS, BPF_MAP_TYPE_LRU_HASH, 8192, u64, struct stranger);
MAP(ATTEMPTS_META, BPF_MAP_TYPE_HASH, 16384, struct attempt_key, struct attempt);
MAP(ATTEMPTS_OTHER, BPF_MAP_TYPE_HASH, 8192, struct attempt_key, struct attempt);
MAP(WAITING, BPF_MAP_TYPE_ARRAY, 4096, u32, u64);
MAP(DROPS, BPF_MAP_TYPE_PERCPU_ARRAY, 5, u32, u64);
TRIE(PREFIXES_V4, key_v4, 4096);
TRIE(PREFIXES_V6, key_v6, 4096);
TRIE(ALLOWED_V4, key_v4, 2048);
TRIE(ALLOWED_V6, key_v6, 2048);

enum { OTHER, ALLOWED, FIRST_PREFIX };
enum { OBSERVE, LIMIT, STRICT };

INLINE void count(struct counters *counters, u8 flags, u64 bytes, u64 now)
{
    counters->packets++;
    counters->bytes += bytes;
    counters->last_seen = now;
    if (flags & NOTABLE) {
        counters->syns += (flags & (SYN | ACK)) == SYN;
        counters->fins += flags & 1;
        counters->rsts += flags >> 2 & 1;
    }
}

// Other processors count there, too.
INLINE void count_shared(struct counters *counters, u8 flags, u64 bytes, u64 now)
{
    __sync_fetch_and_add(&counters->packets, 1);
    __sync_fetch_and_add(&counters->bytes, bytes);
    counters->last_seen = now;
    if (flags & NOTABLE) {
        if ((flags & (SYN | ACK)) == SYN)
            __sync_fetch_and_add(&counters->syns, 1);
        if (flags & 1)
            __sync_fetch_and_add(&counters->fins, 1);
        if (flags >> 2 & 1)
            __sync_fetch_and_add(&counters->rsts, 1);
    }
}

INLINE u64 block(struct segment *segment)
{
    u8 *a = (u8 *)segment->source;
    if (segment->is_v6)
        return 6ull << 56 | (u64)a[0] << 40 | (u64)a[1] << 32 | (u64)a[2] << 24 | (u64)a[3] << 16 | (u64)a[4] << 8 | a[5];
    return 4ull << 56 | (u64)a[12] << 16 | (u64)a[13] << 8 | a[14];
}

#define LOOK_UP(v4, v6)                                  \
    ({                                                   \
        u32 *found;                                      \
        if (segment->is_v6) {                            \
            struct key_v6 key = {.length = 128};         \
            __builtin_memcpy(key.address, segment->source, 16); \
            found = map_lookup(&v6, &key);               \
        } else {                                         \
            struct key_v4 key = {.length = 32};          \
            __builtin_memcpy(key.address, (u8 *)segment->source + 12, 4); \
            found = map_lookup(&v4, &key);               \
        }                                                \
        found;                                           \
    })

INLINE void follow(void *attempts, struct segment *segment, u32 index, struct counters *counters, struct seen *seen, u64 now)
{
    struct attempt_key key = {
        .source = {segment->source[0], segment->source[1]},
        .sequence = segment->sequence,
        .source_port = segment->source_port,
    };
    struct settings *settings = map_lookup(&SETTINGS, &(u32){0});
    struct attempt fresh = {.phase = 1, .deadline = now + 10000000000ull, .index = index};
    fresh.is_watched = settings && settings->sees_answers;
    if (!map_update(attempts, &key, &fresh, BPF_NOEXIST))
        return;
    struct attempt *attempt = map_lookup(attempts, &key);
    if (attempt) {
        if (attempt->phase == 1)
            attempt->deadline = now + 10000000000ull;
        counters->syns_retransmitted++;
        if (seen)
            __sync_fetch_and_add(&seen->counters.syns_retransmitted, 1);
    }
}

// What acknowledges: looked up if an attempt of this source, or of another with the same slot, is answered and open.
INLINE void go_on(void *attempts, struct segment *segment)
{
    u64 address = segment->is_v6 ? __builtin_bswap64(segment->source[0]) ^ __builtin_bswap64(segment->source[1])
                                 : __builtin_bswap32(segment->source[1] >> 32);
    u32 slot = ((address ^ (u64)NETWORK_ORDER(segment->source_port) << 32) * 0x9e3779b97f4a7c15ull) >> 52;
    u64 *waiting = map_lookup(&WAITING, &slot);
    if (!waiting || !*waiting)
        return;
    struct attempt_key key = {
        .source = {segment->source[0], segment->source[1]},
        .sequence = __builtin_bswap32(__builtin_bswap32(segment->sequence) - 1),
        .source_port = segment->source_port,
    };
    struct attempt *attempt = map_lookup(attempts, &key);
    if (attempt && attempt->phase == 1)
        attempt->is_acknowledged = 1;
}

// Whether a source may be Meta's, by what its address begins with.
INLINE int may_be_metas(struct settings *settings, struct segment *segment, u32 generation)
{
    u32 slot = segment->is_v6 ? __builtin_bswap32(segment->source[0]) * 0x9e3779b9u >> 22
                              : __builtin_bswap32(segment->source[1] >> 32) >> 22;
    u32 word = (slot / 64 & 15) + (segment->is_v6 ? 16 : 0);
    return generation % 2 || settings->senders[word & 31] >> slot % 64 & 1;
}

INLINE int admit(struct xdp_md *ctx, struct segment *segment)
{
    u32 zero = 0;
    struct settings *settings = map_lookup(&SETTINGS, &zero);
    if (!settings)
        return XDP_PASS;
    u8 flags = segment->flags;
    u64 bytes = xdp_get_buff_len(ctx), now = ktime_get_coarse_ns(), key = block(segment);
    u32 generation = segment->is_v6 ? settings->generation_v6 : settings->generation_v4, index = 0;
    int may_be = may_be_metas(settings, segment, generation);
    struct seen *seen = may_be ? map_lookup(&PROVEN, &key) : 0;
    if (!may_be) {
        // No look-up.
    } else if (seen && seen->place >> 32 == generation) {
        index = seen->place;
    } else {
        u32 *found = LOOK_UP(PREFIXES_V4, PREFIXES_V6);
        if (found) {
            index = *found;
            if (seen) {
                seen->place = (u64)(generation % 2 ? 0 : generation) << 32 | index;
            } else {
                seen = map_lookup(&SEEN, &key);
                if (!seen) {
                    struct seen fresh = {};
                    map_update(&SEEN, &key, &fresh, BPF_NOEXIST);
                    seen = map_lookup(&SEEN, &key);
                }
            }
        }
    }
    if (index >= FIRST_PREFIX) {
        struct counters *counters = map_lookup(&COUNTERS, &index);
        if (counters)
            count(counters, flags, bytes, now);
        if (seen)
            count_shared(&seen->counters, flags, bytes, now);
        if (counters && (flags & (SYN | ACK)) == SYN)
            follow(&ATTEMPTS_META, segment, index, counters, seen, now);
        else if ((flags & (SYN | RST | ACK)) == ACK)
            go_on(&ATTEMPTS_META, segment);
        return XDP_PASS;
    }
    index = settings->has_allowed && LOOK_UP(ALLOWED_V4, ALLOWED_V6) ? ALLOWED : OTHER;
    struct counters *counters = map_lookup(&COUNTERS, &index);
    if (!counters)
        return XDP_PASS;
    if (index == OTHER && settings->mode == STRICT) {
        counters->packets++;
        counters->bytes += bytes;
        counters->last_seen = now;
        counters->dropped++;
        u64 *drops = map_lookup(&DROPS, &zero);
        if (drops)
            ++*drops;
        return XDP_DROP;
    }
    count(counters, flags, bytes, now);
    if (index == OTHER) {
        struct stranger *stranger = map_lookup(&STRANGERS, &key);
        if (stranger) {
            __sync_fetch_and_add(&stranger->packets, 1);
            __sync_fetch_and_add(&stranger->syns, (flags & (SYN | ACK)) == SYN);
            stranger->last_seen = now;
        } else {
            struct stranger fresh = {.packets = 1, .last_seen = now};
            map_update(&STRANGERS, &key, &fresh, BPF_ANY);
        }
    }
    if ((flags & (SYN | ACK)) == SYN)
        follow(&ATTEMPTS_OTHER, segment, index, counters, 0, now);
    else if ((flags & (SYN | RST | ACK)) == ACK)
        go_on(&ATTEMPTS_OTHER, segment);
    return XDP_PASS;
}

SEC("xdp") int hookgate(struct xdp_md *ctx)
{
    struct segment segment;
    if (!parse(ctx, &segment))
        return XDP_PASS;
    u32 port = NETWORK_ORDER(segment.destination_port), word = port / 64;
    u64 *ports = map_lookup(&PORTS, &word);
    if (!ports || !(*ports >> port % 64 & 1))
        return XDP_PASS;
    return admit(ctx, &segment);
}
