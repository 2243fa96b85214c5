/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * Where flow.bpf.c writes down who owns which socket. Other objects that it is loaded beside read
 * it there: user space gives them the same maps.
 */
#ifndef NETMON_OWNERS_H
#define NETMON_OWNERS_H

#include "flow.h"

/* Where a thread says which peer a datagram goes to, until the hook that knows its size comes. */
struct nm_pending {
	__u64 thread; /* its task's address; 0: free */
	__u8 remote[16];
	__u16 remote_port;
	__u16 reserved[3];
};

enum { NM_PENDING = 4 };

/* Who owns a socket. */
struct nm_socket {
	struct nm_process owner;
	struct nm_process last_user; /* pid 0: the owner */
	__u64 address;		     /* the kernel's, as a number; see nm_open */
	__u64 opened_ns;
	__u64 established_ns;
	__u8 attribution;
	__u8 role;
	__u8 attempted; /* connect was called, and no SYN was seen yet */
	__u8 reserved;
	__u16 remote_port; /* of the attempt */
	__u16 error;	   /* of the attempt, where system calls are followed */
	__u8 remote[16];
	/* Of TCP from the end of the handshake on, for who finds that it ended unseen. */
	__u8 local[16];
	__u32 netns;
	__u16 local_port;
	__u16 reserved2;
};

/* The storage of a datagram socket. */
struct nm_datagrams {
	struct nm_socket socket;
	__u64 cookie;
	__u32 first_state; /* 0: no peer yet, 1: being written, 2: known */
	__u16 remote_port;
	__u8 more_peers;
	__u8 reserved;
	__u8 remote[16];
	struct nm_flow first;	/* the first peer, as most sockets have one */
	struct nm_flow unknown; /* what could not be told apart */
	struct nm_pending pending[NM_PENDING];
};

/* TCP sockets that connect or are connected, by cookie. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1 << 20);
	__type(key, __u64);
	__type(value, struct nm_socket);
} nm_connections SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct nm_datagrams);
} nm_datagram_sockets SEC(".maps");

#endif
