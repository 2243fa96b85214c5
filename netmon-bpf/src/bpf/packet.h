/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * What packets begin with, and addresses as records have them.
 */
#ifndef NETMON_PACKET_H
#define NETMON_PACKET_H

#include "kernel.h"

/* struct iphdr, struct ipv6hdr and struct udphdr, as far as they are read: layouts of the wire. */
struct nm_ipv4 {
	__u8 version_and_length;
	__u8 service;
	__be16 length;
	__be16 identification;
	__be16 fragment;
	__u8 lifetime;
	__u8 protocol;
	__be16 checksum;
	__be32 source;
	__be32 destination;
};

struct nm_ipv6 {
	__be32 flow;
	__be16 length;
	__u8 next;
	__u8 lifetime;
	__u8 source[16] __attribute__((aligned(8)));
	__u8 destination[16] __attribute__((aligned(8)));
};

struct nm_udp {
	__be16 source;
	__be16 destination;
	__be16 length;
	__be16 checksum;
};

static __always_inline void nm_map_ipv4(__u8 *address, __be32 ipv4)
{
	__builtin_memset(address, 0, 10);
	address[10] = 0xff;
	address[11] = 0xff;
	__builtin_memcpy(address + 12, &ipv4, 4);
}

static __always_inline bool nm_is_internet(__u16 family)
{
	return family == NM_AF_INET || family == NM_AF_INET6;
}

#endif
