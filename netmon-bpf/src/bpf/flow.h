/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * The records that flow.bpf.c shares with user space. src/flow/record.rs mirrors them and pins the
 * layout at compile time. Times are nanoseconds of CLOCK_BOOTTIME, 0 where not known; addresses are
 * 16 bytes, IPv4 as v4-mapped, in network order; ports are in host order.
 */
#ifndef NETMON_FLOW_H
#define NETMON_FLOW_H

enum nm_record_type {
	NM_RECORD_NONE = 0,
	NM_RECORD_PROCESS = 1,	  /* struct nm_process_record */
	NM_RECORD_CONNECTION = 2, /* struct nm_connection_record */
	NM_RECORD_HOLDER = 3,	  /* of a Multipath TCP socket: only inode and holder are set */
	NM_RECORD_QUIET = 4,	  /* struct nm_quiet_record */
};

/* What happened to a connection. */
enum nm_change {
	NM_CHANGE_NONE = 0,   /* nothing: it is as an iterator found it */
	NM_CHANGE_OPENED = 1, /* an attempt, or the first datagram */
	NM_CHANGE_ESTABLISHED = 2,
	NM_CHANGE_ENDED = 3, /* closed or failed */
};

/* How the owner is known. */
enum nm_attribution {
	NM_ATTRIBUTION_UNKNOWN = 0,
	NM_ATTRIBUTION_EXACT = 1,     /* seen to connect, listen, accept or use */
	NM_ATTRIBUTION_INHERITED = 2, /* the owner of the listener that accepted it */
	NM_ATTRIBUTION_SNAPSHOT = 3,  /* held it when an iterator came by */
};

/* Who began the connection. */
enum nm_role {
	NM_ROLE_UNKNOWN = 0,
	NM_ROLE_CLIENT = 1,
	NM_ROLE_SERVER = 2,
	NM_ROLE_LISTENER = 3,
};

enum nm_connection_flags {
	NM_FLAG_FIN_RECEIVED = 1 << 0, /* the other side ended sending */
	NM_FLAG_NEVER_SENT = 1 << 1,   /* an attempt that never left: no state change came */
	NM_FLAG_MORE_PEERS = 1 << 2,   /* further peers of this socket are in nm_flows */
	NM_FLAG_IDLE = 1 << 3,	       /* ended because nothing went over it for the idle time */
	NM_FLAG_SOCKET_CLOSED = 1 << 4,
	NM_FLAG_CONNECTED = 1 << 5, /* a datagram socket with a peer of its own */
	NM_FLAG_PEER_UNKNOWN = 1 << 6,
	NM_FLAG_HANDSHAKES = 1 << 7, /* a listener to which others are just connecting */
};

/* Where a record is lost when the ring has no room: an index into nm_lost. */
enum nm_loss {
	NM_LOST_ENDED = 0,   /* ends of connections */
	NM_LOST_OPENED = 1,  /* beginnings, asked for by watchers only */
	NM_LOST_PROCESS = 2, /* details of processes */
	NM_LOST_STORAGE = 3, /* sockets for which no room was had: their owner is unknown */
	NM_LOST_FLOWS = 4,   /* datagrams counted without their peer: nm_flows was full */
	NM_LOSS_COUNT = 5,
};

/* A process from one exec to the next, and the thread of it that was seen. */
struct nm_process {
	__u64 start_ns; /* of the leader */
	__u64 cgroup_id;
	__u32 pid; /* of the thread group; 0: nobody */
	__u32 tid;
	__u32 uid;     /* effective */
	__u32 exec_id; /* grows with each exec */
	char comm[16]; /* of the leader */
	char thread_comm[16];
};

enum { NM_PATH_SIZE = 512, NM_NAME_SIZE = 256 };

/* What else is known of a process when it first uses the network. */
struct nm_process_record {
	__u32 type; /* NM_RECORD_PROCESS */
	__u32 parent_pid;
	struct nm_process process;
	/* Names from the file (or group) up to its root, each ending in NUL. */
	__u32 exe_length;
	__u32 cgroup_length;
	/* Arguments, each ending in NUL. */
	__u32 arguments_length;
	__u32 reserved;
	char exe[NM_PATH_SIZE + NM_NAME_SIZE];
	char cgroup[NM_PATH_SIZE + NM_NAME_SIZE];
	char arguments[NM_PATH_SIZE];
};

struct nm_connection_record {
	__u32 type; /* NM_RECORD_CONNECTION */
	__u8 change;
	__u8 protocol; /* IPPROTO_* */
	__u8 attribution;
	__u8 role;
	__u8 state; /* TCP's, before the change */
	__u8 flags;
	__u16 local_port;
	__u16 remote_port;
	__u16 reserved;
	__s32 error; /* errno, 0 where there is none */
	__u64 at_ns;
	__u64 cookie;
	__u64 opened_ns;
	__u64 established_ns;
	__u64 last_seen_ns; /* datagrams */
	__u64 bytes_sent;
	__u64 bytes_received;
	__u64 packets_sent;
	__u64 packets_received;
	__u32 retransmits;
	__u32 rtt_us;
	__u32 netns;
	__u32 reserved2;
	__u8 local[16];
	__u8 remote[16];
	struct nm_process owner;
	struct nm_process last_user; /* pid 0: the owner */
};

/* One file descriptor of a process that is a socket; or a socket that no process holds. */
struct nm_socket_record {
	struct nm_connection_record connection;
	__u64 inode;
	__u32 receive_queue;
	__u32 send_queue;
	struct nm_process holder;
};

/* In the place of a socket record: an established TCP connection on which nothing came or went for
 * so long as was asked for. */
struct nm_quiet_record {
	__u32 type; /* NM_RECORD_QUIET */
	__u32 netns;
	__u64 cookie;
};

/* A peer of a datagram socket beyond its first. */
struct nm_flow_key {
	__u64 cookie;
	__u8 remote[16];
	__u16 remote_port;
	__u16 reserved[3];
};

/* What went between a datagram socket and a peer. */
struct nm_flow {
	__u64 opened_ns;
	__u64 last_seen_ns;
	__u64 bytes_sent;
	__u64 bytes_received;
	__u64 packets_sent;
	__u64 packets_received;
	__u32 role;
	__s32 error;
};

/* What user space may change while programs run. */
struct nm_settings {
	__u64 idle_ns;	   /* after which a datagram flow has ended */
	__u32 tell_opened; /* somebody watches: tell of beginnings too */
	__u32 list_held;   /* the TCP iterator tells of sockets too that processes hold */
	__u32 quiet;	   /* the other iterator leaves out what it can of quiet connections */
	__u32 quiet_since; /* in the kernel's ticks */
};

_Static_assert(sizeof(struct nm_settings) == 24, "mirrored in src/flow/record.rs");
_Static_assert(sizeof(struct nm_process) == 64, "mirrored in src/flow/record.rs");
_Static_assert(sizeof(struct nm_connection_record) == 272, "mirrored in src/flow/record.rs");
_Static_assert(sizeof(struct nm_socket_record) == 352, "mirrored in src/flow/record.rs");
_Static_assert(sizeof(struct nm_quiet_record) == 16, "mirrored in src/flow/record.rs");
_Static_assert(sizeof(struct nm_flow_key) == 32, "mirrored in src/flow/record.rs");
_Static_assert(sizeof(struct nm_flow) == 56, "mirrored in src/flow/record.rs");

#endif
