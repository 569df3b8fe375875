// What any XDP program costs.
#include "xdp.h"

SEC("xdp") int hookgate(struct xdp_md *ctx)
{
    return XDP_PASS;
}
