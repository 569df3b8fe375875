// The little that the programs need of the kernel's headers and of libbpf's, and how they parse.
#pragma once
#include <linux/bpf.h>

typedef __u8 u8;
typedef __u16 u16;
typedef __u32 u32;
typedef __u64 u64;

#define SEC(name) __attribute__((section(name), used))
#define INLINE static inline __attribute__((always_inline))
#define UINT(name, value) int(*name)[value]
#define TYPE(name, type) typeof(type) *name

static void *(*map_lookup)(void *map, const void *key) = (void *)1;
static long (*map_update)(void *map, const void *key, const void *value, u64 flags) = (void *)2;
static u64 (*ktime_get_coarse_ns)(void) = (void *)160;
static u64 (*xdp_get_buff_len)(struct xdp_md *ctx) = (void *)188;

char licence[] SEC("license") = "Dual MIT/GPL";

struct key_v4 {
    u32 length;
    u8 address[4];
};

struct key_v6 {
    u32 length;
    u8 address[16];
};

#define TRIE(name, key_type, entries) \
    struct {                          \
        UINT(type, BPF_MAP_TYPE_LPM_TRIE); \
        UINT(map_flags, BPF_F_NO_PREALLOC); \
        UINT(max_entries, entries);   \
        TYPE(key, struct key_type);   \
        TYPE(value, u32);             \
    } name SEC(".maps")

// Addresses as IPv6 writes them, ports and sequence number in network byte order.
struct segment {
    u64 source[2], destination[2];
    u16 source_port, destination_port;
    u32 sequence;
    u8 flags, is_v6;
};

#define NETWORK_ORDER(port) ((u16)((port) >> 8 | (port) << 8))
#define BE16(p) ((u16)((p)[0] << 8 | (p)[1]))
#define SYN 0x02
#define RST 0x04
#define ACK 0x10
#define NOTABLE 0x07

INLINE void mapped(u64 *to, u8 *from)
{
    u32 v4;
    __builtin_memcpy(&v4, from, 4);
    to[0] = 0;
    to[1] = (u64)v4 << 32 | 0xffff0000;
}

// Ethernet, up to two VLAN tags, IPv4 with options, IPv6 without extension headers.
INLINE int parse(struct xdp_md *ctx, struct segment *segment)
{
    u8 *at = (u8 *)(long)ctx->data, *end = (u8 *)(long)ctx->data_end;
    if (at + 14 > end)
        return 0;
    u16 type = BE16(at + 12);
    at += 14;
#pragma unroll
    for (int tag = 0; tag < 2; tag++) {
        if (type != 0x8100 && type != 0x88a8)
            break;
        if (at + 4 > end)
            return 0;
        type = BE16(at + 2);
        at += 4;
    }
    if (type == 0x0800) {
        if (at + 20 > end)
            return 0;
        u32 header = (at[0] & 0x0f) * 4;
        if (at[0] >> 4 != 4 || header < 20 || at[9] != 6 || BE16(at + 6) & 0x1fff || BE16(at + 2) < header + 20)
            return 0;
        mapped(segment->source, at + 12);
        mapped(segment->destination, at + 16);
        segment->is_v6 = 0;
        at += header;
    } else if (type == 0x86dd) {
        if (at + 40 > end)
            return 0;
        if (at[0] >> 4 != 6 || at[6] != 6 || BE16(at + 4) < 20)
            return 0;
        __builtin_memcpy(segment->source, at + 8, 16);
        __builtin_memcpy(segment->destination, at + 24, 16);
        segment->is_v6 = 1;
        at += 40;
    } else {
        return 0;
    }
    if (at + 20 > end)
        return 0;
    __builtin_memcpy(&segment->source_port, at, 2);
    __builtin_memcpy(&segment->destination_port, at + 2, 2);
    __builtin_memcpy(&segment->sequence, at + 4, 4);
    segment->flags = at[13];
    return 1;
}
