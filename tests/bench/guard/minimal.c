// The least that can count Meta's packets: parse, one port, one longest match, three counters.
#include "xdp.h"

struct counters {
    u64 packets, bytes, syns;
};

TRIE(PREFIXES_V4, key_v4, 4096);
TRIE(PREFIXES_V6, key_v6, 4096);
struct {
    UINT(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    UINT(max_entries, 4096);
    TYPE(key, u32);
    TYPE(value, struct counters);
} COUNTERS SEC(".maps");

SEC("xdp") int hookgate(struct xdp_md *ctx)
{
    struct segment segment;
    if (!parse(ctx, &segment) || segment.destination_port != NETWORK_ORDER(443))
        return XDP_PASS;
    u32 *index, other = 0;
    if (segment.is_v6) {
        struct key_v6 key = {.length = 128};
        __builtin_memcpy(key.address, segment.source, 16);
        index = map_lookup(&PREFIXES_V6, &key);
    } else {
        struct key_v4 key = {.length = 32};
        __builtin_memcpy(key.address, (u8 *)segment.source + 12, 4);
        index = map_lookup(&PREFIXES_V4, &key);
    }
    struct counters *counters = map_lookup(&COUNTERS, index ? index : &other);
    if (counters) {
        counters->packets++;
        counters->bytes += ctx->data_end - ctx->data;
        counters->syns += (segment.flags & (SYN | ACK)) == SYN;
    }
    return XDP_PASS;
}
