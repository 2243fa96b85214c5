/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * What drops.bpf.c shares with user space. src/drops/record.rs mirrors it and pins the layout at
 * compile time. Times, addresses and ports are as in flow.h.
 */
#ifndef NETMON_DROPS_H
#define NETMON_DROPS_H

#include "flow.h"

enum nm_drop_side {
	NM_SIDE_UNKNOWN = 0,
	NM_SIDE_RECEIVED = 1, /* it came in, to be forwarded perhaps */
	NM_SIDE_SENT = 2,
};

/* Where a drop is not told as it should be: an index into nm_drops_lost. */
enum nm_drop_loss {
	NM_LOST_DETAIL = 0, /* packets counted without process and port: nm_drops was full */
	NM_LOST_DROP = 1,   /* packets that are in no table */
	NM_DROP_LOSS_COUNT = 2,
};

/* What drops are told apart by: nothing that a flood of strangers could choose without end. */
struct nm_drop_key {
	__u64 owner_start_ns;
	__u32 owner_pid; /* 0: nobody's */
	__u32 owner_exec_id;
	__u32 reason; /* as the running kernel numbers them; 0 where it gives none */
	__u32 netns;  /* 0 where not known */
	__u16 local_port;
	__u8 protocol; /* IPPROTO_*, 0 where not known */
	__u8 family;   /* AF_*, 0 where it is no IP packet */
	__u8 side;
	__u8 reserved[3];
};

struct nm_drop {
	__u64 packets;
	__u64 wire_packets; /* the segments that they stand for */
	__u64 bytes;	    /* from the IP header on */
	__u64 first_ns;
	__u64 last_ns;
	__u64 peer_ns; /* when the peer was written down */
	__u64 cookie;  /* of the first socket, where its owner is not known */
	__u8 peer[16]; /* one of them */
	__u16 peer_port;
	__u8 attribution;
	__u8 reserved;
	__u32 interface; /* the last packet's index */
	struct nm_process owner;
};

_Static_assert(sizeof(struct nm_drop_key) == 32, "mirrored in src/drops/record.rs");
_Static_assert(sizeof(struct nm_drop) == 144, "mirrored in src/drops/record.rs");

#endif
