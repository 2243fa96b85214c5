/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * The record that iface.bpf.c shares with user space. src/interface.rs mirrors it and pins the
 * layout at compile time.
 */
#ifndef NETMON_IFACE_H
#define NETMON_IFACE_H

/* What a frame is, by network layer and transport. Also the index into nm_counters. */
enum nm_traffic_class {
	NM_CLASS_OTHER = 0, /* neither IP nor ARP, or too short to tell */
	NM_CLASS_ARP = 1,
	NM_CLASS_IPV4_TCP = 2,
	NM_CLASS_IPV4_UDP = 3,
	NM_CLASS_IPV4_ICMP = 4,
	NM_CLASS_IPV4_OTHER = 5,
	NM_CLASS_IPV6_TCP = 6,
	NM_CLASS_IPV6_UDP = 7,
	NM_CLASS_IPV6_ICMP = 8,
	NM_CLASS_IPV6_OTHER = 9,
	NM_CLASS_COUNT = 10,
};

struct nm_class_counters {
	__u64 packets;	    /* socket buffers, or frames under XDP */
	__u64 wire_packets; /* what they are on the wire: the sum of max(gso_segs, 1) */
	__u64 bytes;	    /* the buffers' length, link-layer header included */
	__u64 wire_bytes;   /* bytes, and the headers that segmentation repeats */
};

_Static_assert(sizeof(struct nm_class_counters) == 32, "mirrored in src/interface.rs");
_Static_assert(NM_CLASS_COUNT == 10, "TRAFFIC_CLASSES in src/interface.rs");

#endif
