// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * What the counting programs of iface.bpf.c are compared with: programs that do nothing, and the
 * simplest ways to count, in which all CPUs share one counter. Benchmarks only.
 */
#include "netmon.h"

char LICENSE[] SEC("license") = "Dual MIT/GPL";

/* include/uapi/linux/bpf.h: netmon.h has what the product uses, and that never shares a counter. */
enum {
	NM_MAP_TYPE_ARRAY = 2,
};

#define NM_UNUSED __attribute__((unused))

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} nm_shared_hash_packets SEC(".maps");

struct {
	__uint(type, NM_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} nm_shared_array_packets SEC(".maps");

SEC("tc")
int nm_pass_skb(NM_UNUSED struct __sk_buff *skb)
{
	return NM_TC_NEXT;
}

SEC("xdp")
int nm_pass_xdp(NM_UNUSED struct xdp_md *context)
{
	return XDP_PASS;
}

SEC("xdp")
int nm_count_shared_hash(NM_UNUSED struct xdp_md *context)
{
	__u32 key = 0;
	__u64 one = 1, *packets = bpf_map_lookup_elem(&nm_shared_hash_packets, &key);

	if (packets)
		__sync_fetch_and_add(packets, 1);
	else
		bpf_map_update_elem(&nm_shared_hash_packets, &key, &one, 0);
	return XDP_PASS;
}

SEC("xdp")
int nm_count_shared_array(NM_UNUSED struct xdp_md *context)
{
	__u32 key = 0;
	__u64 *packets = bpf_map_lookup_elem(&nm_shared_array_packets, &key);

	if (packets)
		__sync_fetch_and_add(packets, 1);
	return XDP_PASS;
}
