/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * What every netmon BPF program needs, written by hand instead of dumped from one kernel's BTF:
 * clang is then the only tool of the BPF build, one object loads on every kernel, and the generated
 * Rust types are ours alone. Only stable UAPI is declared here; kernel-internal structs, where a
 * program reads them, are CO-RE flavours beside that program.
 */
#ifndef NETMON_H
#define NETMON_H

typedef unsigned char __u8;
typedef signed char __s8;
typedef unsigned short __u16;
typedef signed short __s16;
typedef unsigned int __u32;
typedef signed int __s32;
typedef unsigned long long __u64;
typedef signed long long __s64;
typedef __u16 __be16;
typedef __u32 __be32;
typedef __u64 __be64;
typedef __u32 __wsum;
typedef _Bool bool;

enum { false = 0, true = 1 };

/* include/uapi/linux/bpf.h: the map types in use */
enum bpf_map_type {
	BPF_MAP_TYPE_HASH = 1,
	BPF_MAP_TYPE_PERCPU_ARRAY = 6,
};

/* include/uapi/linux/bpf.h: context of a traffic-control program. The layout is ABI. */
struct __sk_buff {
	__u32 len;
	__u32 pkt_type;
	__u32 mark;
	__u32 queue_mapping;
	__u32 protocol;
	__u32 vlan_present;
	__u32 vlan_tci;
	__u32 vlan_proto;
	__u32 priority;
	__u32 ingress_ifindex;
	__u32 ifindex;
	__u32 tc_index;
	__u32 cb[5];
	__u32 hash;
	__u32 tc_classid;
	__u32 data;
	__u32 data_end;
	__u32 napi_id;
	__u32 family;
	__u32 remote_ip4;
	__u32 local_ip4;
	__u32 remote_ip6[4];
	__u32 local_ip6[4];
	__u32 remote_port;
	__u32 local_port;
	__u32 data_meta;
	__u64 flow_keys;
	__u64 tstamp;
	__u32 wire_len;
	__u32 gso_segs;
	__u64 sk;
	__u32 gso_size;
};

/* include/uapi/linux/bpf.h: context of an XDP program. The layout is ABI. */
struct xdp_md {
	__u32 data;
	__u32 data_end;
	__u32 data_meta;
	__u32 ingress_ifindex;
	__u32 rx_queue_index;
	__u32 egress_ifindex;
};

enum xdp_action {
	XDP_PASS = 2,
};

/* TCX_NEXT and TC_ACT_UNSPEC are both -1: "go on with the next program", so that one program
 * serves tcx links and clsact filters and never decides about a packet. */
enum nm_verdict {
	NM_TC_NEXT = -1,
};

enum bpf_hdr_start_off {
	BPF_HDR_START_MAC = 0,
	BPF_HDR_START_NET = 1,
};

#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

#endif
