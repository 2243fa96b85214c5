// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * Connections and their owners.
 *
 * An owner is written down by the process itself, in its context: when it connects, listens, or
 * uses what it accepted. So it is right however short the process lives, and softirq, where
 * connections are established, fail and end, only reads it. Counters are the kernel's own
 * (tcp_sock) or, for datagrams, beside the owner; a record crosses when a connection ends, once,
 * and when it begins only while somebody watches.
 *
 * Datagram sockets carry this in their own storage. TCP sockets do not, as storage costs two
 * allocations and two RCU callbacks a socket, for both ends: with it a storm of connections ran at
 * 0.87 of its speed. An element of a hash costs a fraction, and every TCP socket that has one says
 * when it closes.
 *
 * Every program is optional: user space loads those that work on the running kernel.
 */
#include "netmon.h"
#include "flow.h"
#include "kernel.h"
#include "owners.h"
#include "packet.h"
#include "process.h"
#include <bpf/bpf_tracing.h>

char LICENSE[] SEC("license") = "Dual MIT/GPL";

/* What a ring of this size holds until the consumer is woken: a quarter. */
const volatile __u64 nm_wake_bytes = 1 << 19;

/* Whether sock_send_length and sock_recv_length are there (6.3). Without them datagrams are counted
 * packet by packet, and their senders and receivers say who they are. */
const volatile __u8 nm_has_lengths = 1;

/* Whether anything but the iterators is loaded. */
const volatile __u8 nm_follows = 1;

/* Where somebody listens: the address is 0 for any. */
struct nm_place {
	__u8 local[16];
	__u32 netns;
	__u16 port;
	__u16 reserved;
};

struct nm_listener {
	struct nm_process owner;
	__u32 sockets; /* several, with SO_REUSEPORT */
	__u32 shared;  /* by several processes: which one accepts is not known before it does */
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 16384);
	__type(key, struct nm_place);
	__type(value, struct nm_listener);
} nm_listeners SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 65536);
	__type(key, struct nm_flow_key);
	__type(value, struct nm_flow);
} nm_flows SEC(".maps");

/* The processes of which a record was sent. */
struct nm_known {
	__u64 start_ns;
	__u64 exec_id;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, __u32);
	__type(value, struct nm_known);
} nm_known_processes SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct nm_settings);
} nm_settings SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 2 << 20);
} nm_records SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, NM_LOSS_COUNT);
	__type(key, __u32);
	__type(value, __u64);
} nm_lost SEC(".maps");

/* Anchors: types that only a ring or an iterator carries are not in the skeleton otherwise. */
const enum nm_record_type *nm_record_type_anchor __attribute__((unused));
const enum nm_change *nm_change_anchor __attribute__((unused));
const enum nm_attribution *nm_attribution_anchor __attribute__((unused));
const enum nm_role *nm_role_anchor __attribute__((unused));
const enum nm_connection_flags *nm_connection_flags_anchor __attribute__((unused));
const enum nm_loss *nm_loss_anchor __attribute__((unused));
const struct nm_process_record *nm_process_record_anchor __attribute__((unused));
const struct nm_connection_record *nm_connection_record_anchor __attribute__((unused));
const struct nm_socket_record *nm_socket_record_anchor __attribute__((unused));
const struct nm_quiet_record *nm_quiet_record_anchor __attribute__((unused));

static __always_inline void nm_count_lost(__u32 kind, __u64 count)
{
	__u64 *lost = bpf_map_lookup_elem(&nm_lost, &kind);

	if (lost)
		*lost += count;
}

static __always_inline bool nm_tells_opened(void)
{
	__u32 zero = 0;
	const struct nm_settings *settings = bpf_map_lookup_elem(&nm_settings, &zero);

	return settings && settings->tell_opened;
}

static __always_inline bool nm_lists_held(void)
{
	__u32 zero = 0;
	const struct nm_settings *settings = bpf_map_lookup_elem(&nm_settings, &zero);

	return settings && settings->list_held;
}

static __always_inline bool nm_is_idle(__u64 since, __u64 now)
{
	__u32 zero = 0;
	const struct nm_settings *settings = bpf_map_lookup_elem(&nm_settings, &zero);

	return settings && now > since && now - since > settings->idle_ns;
}

/* How many records a CPU sent. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} nm_sent SEC(".maps");

/* Looking how full the ring is, and waking, cost more than the record: both are done for one in so
 * many. */
enum { NM_LOOK_EVERY = 16 };

/* Wakes the consumer only when there is enough to do; otherwise it comes by itself soon. */
static __always_inline void nm_submit(void *record)
{
	__u32 zero = 0;
	__u32 *sent = bpf_map_lookup_elem(&nm_sent, &zero);
	__u64 flags = BPF_RB_NO_WAKEUP;

	if (sent && (*sent)++ % NM_LOOK_EVERY == 0 &&
	    bpf_ringbuf_query(&nm_records, BPF_RB_AVAIL_DATA) >= nm_wake_bytes)
		flags = BPF_RB_FORCE_WAKEUP;
	bpf_ringbuf_submit(record, flags);
}

/* ---- processes ---- */

enum { NM_PATH_DEPTH = 24 };

/* A walk from a file, or a control group, up to its root. */
struct nm_walk {
	char *names;
	__u32 *length;
	struct dentry *dentry;
	struct mount *mount;
	struct kernfs_node *node;
};

/* Appends a name and its NUL; names are taken as long as there is room. The length is kept in
 * memory, not in a register, so that the verifier takes all ways through a loop for the same and
 * follows one. */
static __always_inline void nm_append(struct nm_walk *walk, const void *name)
{
	__u32 at = *(volatile __u32 *)walk->length;
	long read;

	if (at >= NM_PATH_SIZE)
		return;
	read = bpf_probe_read_kernel_str(walk->names + at, NM_NAME_SIZE, name);
	if (read > 0)
		*(volatile __u32 *)walk->length = at + read;
}

#ifdef NM_OLD
#define NM_STEP __always_inline
#else
#define NM_STEP
#endif

/* One name of a file's path; mounts are looked through. 1 at the end. */
static NM_STEP long nm_step_path(__u32 index, struct nm_walk *walk)
{
	struct dentry *dentry = walk->dentry;
	struct mount *mount = walk->mount;
	struct dentry *parent = BPF_CORE_READ(dentry, d_parent);

	if (dentry == BPF_CORE_READ(mount, mnt.mnt_root) || dentry == parent) {
		walk->mount = BPF_CORE_READ(mount, mnt_parent);
		walk->dentry = BPF_CORE_READ(mount, mnt_mountpoint);
		return walk->mount == mount;
	}
	nm_append(walk, BPF_CORE_READ(dentry, d_name.name));
	walk->dentry = parent;
	return 0;
}

/* One name of a control group's path. 1 at the end. */
static NM_STEP long nm_step_cgroup(__u32 index, struct nm_walk *walk)
{
	struct kernfs_node *node = walk->node;
	struct kernfs_node *parent;

	if (bpf_core_field_exists(node->parent))
		parent = BPF_CORE_READ(node, parent);
	else
		parent = BPF_CORE_READ((struct kernfs_node___rcu *)node, __parent);
	if (!parent)
		return 1;
	nm_append(walk, BPF_CORE_READ(node, name));
	walk->node = parent;
	return 0;
}

#define nm_repeat(step, walk)                                                                      \
	do {                                                                                       \
		for (int depth = 0; depth < NM_PATH_DEPTH; depth++) {                              \
			if (step(depth, walk))                                                     \
				break;                                                             \
		}                                                                                  \
	} while (0)

#ifdef NM_OLD
#define nm_walk_up nm_repeat
#else
/* The verifier looks at the body of bpf_loop (5.17) once, and at each turn of a loop, in five
 * programs. */
#define nm_walk_up(step, walk)                                                                     \
	do {                                                                                       \
		if (bpf_core_enum_value_exists(enum bpf_func_id, BPF_FUNC_loop))                   \
			bpf_loop(NM_PATH_DEPTH, step, walk, 0);                                    \
		else                                                                               \
			nm_repeat(step, walk);                                                     \
	} while (0)
#endif

static __noinline int nm_read_path(struct nm_process_record *record, struct file *file)
{
	struct vfsmount *vfsmount = BPF_CORE_READ(file, f_path.mnt);
	struct nm_walk walk = {
		.names = record->exe,
		.length = &record->exe_length,
		.dentry = BPF_CORE_READ(file, f_path.dentry),
		.mount = (void *)vfsmount - bpf_core_field_offset(struct mount, mnt),
	};

	nm_walk_up(nm_step_path, &walk);
	return 0;
}

static __noinline int nm_read_cgroup(struct nm_process_record *record, struct kernfs_node *node)
{
	struct nm_walk walk = {
		.names = record->cgroup,
		.length = &record->cgroup_length,
		.node = node,
	};

	nm_walk_up(nm_step_cgroup, &walk);
	return 0;
}

/* Sends what else there is to know of the current process, once for each exec. */
static __noinline int nm_introduce(const struct nm_process *process)
{
	struct task_struct *task = nm_current();
	struct nm_known known = {};
	struct nm_known *before;
	struct nm_process_record *record;
	struct mm_struct *mm;
	struct file *exe;
	__u32 pid;

	if (!process)
		return 0;
	pid = process->pid;
	known.start_ns = process->start_ns;
	known.exec_id = process->exec_id;
	before = bpf_map_lookup_elem(&nm_known_processes, &pid);
	if (before && before->start_ns == known.start_ns && before->exec_id == known.exec_id)
		return 0;
	/* A process that is being torn down has no memory, and so neither file nor arguments. */
	mm = BPF_CORE_READ(task, mm);
	if (!mm)
		return 0;

	record = bpf_ringbuf_reserve(&nm_records, sizeof(*record), 0);
	if (!record) {
		nm_count_lost(NM_LOST_PROCESS, 1);
		return 0;
	}
	record->type = NM_RECORD_PROCESS;
	record->parent_pid = BPF_CORE_READ(task, real_parent, tgid);
	record->process = *process;
	record->reserved = 0;
	exe = BPF_CORE_READ(mm, exe_file);
	record->exe_length = 0;
	record->cgroup_length = 0;
	if (exe)
		nm_read_path(record, exe);
	nm_read_cgroup(record, BPF_CORE_READ(task, cgroups, dfl_cgrp, kn));

	__u64 arguments = BPF_CORE_READ(mm, arg_start);
	__u64 length = BPF_CORE_READ(mm, arg_end) - arguments;

	if (length > NM_PATH_SIZE)
		length = NM_PATH_SIZE;
	record->arguments_length = 0;
	if (length > 0 && bpf_probe_read_user(record->arguments, length & (2 * NM_PATH_SIZE - 1),
					      (void *)arguments) == 0)
		record->arguments_length = length;
	nm_submit(record);
	bpf_map_update_elem(&nm_known_processes, &pid, &known, BPF_ANY);
	return 0;
}

/* ---- owners ---- */

/* The current process connected, listens, or is the first to use what was accepted. */
static __always_inline void nm_claim(struct nm_socket *socket, __u8 attribution)
{
	struct task_struct *task = nm_current();

	if (socket->attribution != attribution || !nm_is_process(&socket->owner, task) ||
	    socket->owner.tid != (__u32)NM_READ(task, pid)) {
		nm_read_process(&socket->owner, task);
		socket->attribution = attribution;
		nm_introduce(&socket->owner);
	}
	socket->last_user.pid = 0;
}

/* The current process does input or output. */
static __always_inline void nm_use(struct nm_socket *socket)
{
	struct task_struct *task = nm_current();

	if (socket->attribution == NM_ATTRIBUTION_INHERITED ||
	    socket->attribution == NM_ATTRIBUTION_UNKNOWN) {
		nm_claim(socket, NM_ATTRIBUTION_EXACT);
		return;
	}
	if (nm_is_process(&socket->owner, task)) {
		if (socket->last_user.pid)
			socket->last_user.pid = 0;
		return;
	}
	if (socket->last_user.pid && nm_is_process(&socket->last_user, task))
		return;
	nm_read_process(&socket->last_user, task);
	nm_introduce(&socket->last_user);
}

/* ---- TCP sockets and listeners ---- */

/* A socket of which nothing is known yet; too large for the stack of some programs. */
static const struct nm_socket nm_nobody;

/* The number of a socket. Before 5.12 tracing programs cannot have one made, and sockets that were
 * accepted have none until somebody asks: then its address stands in for it, which is never told.
 */
static __always_inline __u64 nm_cookie(struct sock *sk)
{
	__u64 cookie;

	if (bpf_core_enum_value_exists(enum bpf_func_id, BPF_FUNC_check_mtu))
		return bpf_get_socket_cookie(sk);
	cookie = sk->__sk_common.skc_cookie.counter;
	return cookie ? cookie : (__u64)sk;
}

/* Cookies are counted from 1; kernel addresses have their highest bit set. */
static __always_inline __u64 nm_tellable(__u64 cookie)
{
	return cookie >> 63 ? 0 : cookie;
}

static __always_inline struct nm_socket *nm_find(__u64 cookie)
{
	return cookie ? bpf_map_lookup_elem(&nm_connections, &cookie) : NULL;
}

/* By the cookie that it has, and before 5.12 by what stood in for one. */
static __always_inline struct nm_socket *nm_find_socket(struct sock *sk, __u64 *cookie)
{
	struct nm_socket *socket;

	*cookie = sk->__sk_common.skc_cookie.counter;
	socket = nm_find(*cookie);
	if (!socket && !bpf_core_enum_value_exists(enum bpf_func_id, BPF_FUNC_check_mtu)) {
		*cookie = (__u64)sk;
		socket = nm_find(*cookie);
	}
	return socket;
}

#ifdef NM_OLD
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} nm_number SEC(".maps");

/* The same for programs of cgroups, which get their socket as a pointer that must not be looked
 * for: what was stored is only a number. */
static __always_inline struct nm_socket *nm_find_by_address(void *sk, __u64 *cookie)
{
	__u32 zero = 0;
	volatile __u64 *number = bpf_map_lookup_elem(&nm_number, &zero);

	if (!number)
		return NULL;
	*number = (__u64)sk;
	*cookie = *number;
	return nm_find(*cookie);
}
#endif

static __always_inline struct nm_socket *nm_find_or_add(__u64 cookie)
{
	struct nm_socket *socket = bpf_map_lookup_elem(&nm_connections, &cookie);

	if (!socket) {
		bpf_map_update_elem(&nm_connections, &cookie, &nm_nobody, BPF_NOEXIST);
		socket = bpf_map_lookup_elem(&nm_connections, &cookie);
		if (!socket)
			nm_count_lost(NM_LOST_STORAGE, 1);
	}
	return socket;
}

static __always_inline void nm_read_place(struct nm_place *place, struct sock_common *sk)
{
	place->netns = sk->skc_net.net->ns.inum;
	place->port = sk->skc_num;
	if (sk->skc_family == NM_AF_INET6)
		bpf_probe_read_kernel(place->local, 16, &sk->skc_v6_rcv_saddr);
	else if (sk->skc_rcv_saddr)
		nm_map_ipv4(place->local, sk->skc_rcv_saddr);
}

static const struct nm_listener nm_no_listener;

/* The process of this task listens here. */
static __always_inline void nm_add_listener(struct sock_common *sk, struct task_struct *task)
{
	struct nm_place place = {};
	struct nm_listener *listener;

	nm_read_place(&place, sk);
	listener = bpf_map_lookup_elem(&nm_listeners, &place);
	if (!listener) {
		bpf_map_update_elem(&nm_listeners, &place, &nm_no_listener, BPF_NOEXIST);
		listener = bpf_map_lookup_elem(&nm_listeners, &place);
		if (!listener) {
			nm_count_lost(NM_LOST_STORAGE, 1);
			return;
		}
		nm_read_process(&listener->owner, task);
	} else if (listener->owner.pid != (__u32)NM_READ(task, tgid)) {
		listener->shared = 1;
	}
	listener->sockets++;
}

static __always_inline void nm_remove_listener(struct sock_common *sk, __u16 port)
{
	struct nm_place place = {};
	struct nm_listener *listener;

	nm_read_place(&place, sk);
	place.port = port;
	listener = bpf_map_lookup_elem(&nm_listeners, &place);
	if (!listener)
		return;
	if (listener->sockets > 1)
		listener->sockets--;
	else
		bpf_map_delete_elem(&nm_listeners, &place);
}

/* What was accepted belongs to who listens, until somebody is seen to use it. */
static __always_inline void nm_inherit(struct nm_socket *socket, struct sock_common *sk)
{
	struct nm_place place = {};
	struct nm_listener *listener;

	nm_read_place(&place, sk);
	listener = bpf_map_lookup_elem(&nm_listeners, &place);
	if (!listener) {
		__builtin_memset(place.local, 0, sizeof(place.local));
		listener = bpf_map_lookup_elem(&nm_listeners, &place);
	}
	if (!listener || listener->shared || !listener->owner.pid)
		return;
	socket->owner = listener->owner;
	socket->attribution = NM_ATTRIBUTION_INHERITED;
}

static __always_inline void nm_read_addresses(struct nm_connection_record *record,
					      struct sock_common *sk)
{
	if (sk->skc_family == NM_AF_INET6) {
		bpf_probe_read_kernel(record->local, 16, &sk->skc_v6_rcv_saddr);
		bpf_probe_read_kernel(record->remote, 16, &sk->skc_v6_daddr);
	} else {
		nm_map_ipv4(record->local, sk->skc_rcv_saddr);
		nm_map_ipv4(record->remote, sk->skc_daddr);
	}
	record->remote_port = bpf_ntohs(sk->skc_dport);
	record->local_port = sk->skc_num;
	record->netns = sk->skc_net.net->ns.inum;
}

static __always_inline void nm_read_owner(struct nm_connection_record *record,
					  const struct nm_socket *socket)
{
	if (!socket) {
		record->attribution = NM_ATTRIBUTION_UNKNOWN;
		record->role = NM_ROLE_UNKNOWN;
		record->opened_ns = 0;
		record->established_ns = 0;
		__builtin_memset(&record->owner, 0, sizeof(record->owner));
		record->last_user.pid = 0;
		return;
	}
	record->attribution = socket->attribution;
	record->role = socket->role;
	record->opened_ns = socket->opened_ns;
	record->established_ns = socket->established_ns;
	record->owner = socket->owner;
	if (socket->last_user.pid)
		record->last_user = socket->last_user;
	else
		record->last_user.pid = 0;
}

/* ---- TCP ---- */

static __always_inline void nm_read_tcp(struct nm_connection_record *record, struct tcp_sock *tcp)
{
	struct sock *sk = &tcp->inet_conn.icsk_inet.sk;
	bool fin = sk->__sk_common.skc_flags & NM_SOCK_DONE;
	__u64 received = tcp->bytes_received;

	/* The other side's FIN is counted as a byte. */
	record->bytes_received = fin && received ? received - 1 : received;
	record->bytes_sent = tcp->bytes_sent - tcp->bytes_retrans;
	record->packets_sent = tcp->segs_out;
	record->packets_received = tcp->segs_in;
	record->retransmits = tcp->total_retrans;
	record->rtt_us = tcp->srtt_us >> 3;
	record->last_seen_ns = 0;
	if (fin)
		record->flags |= NM_FLAG_FIN_RECEIVED;
	/* skc_num is 0 once the port is given back. */
	record->local_port = bpf_ntohs(tcp->inet_conn.icsk_inet.inet_sport);
}

static __always_inline __u16 nm_local_port(struct sock *sk)
{
	struct tcp_sock *tcp = bpf_skc_to_tcp_sock(sk);

	return tcp ? bpf_ntohs(tcp->inet_conn.icsk_inet.inet_sport) : 0;
}

static __always_inline int nm_tell_tcp(struct sock *sk, const struct nm_socket *socket, __u8 change,
				       __u8 state, __u64 now)
{
	struct tcp_sock *tcp = bpf_skc_to_tcp_sock(sk);
	struct nm_connection_record *record;

	if (!tcp)
		return 0;
	record = bpf_ringbuf_reserve(&nm_records, sizeof(*record), 0);
	if (!record) {
		nm_count_lost(change == NM_CHANGE_ENDED ? NM_LOST_ENDED : NM_LOST_OPENED, 1);
		return 0;
	}
	record->type = NM_RECORD_CONNECTION;
	record->change = change;
	record->protocol = NM_IPPROTO_TCP;
	record->state = state;
	record->flags = 0;
	record->reserved = 0;
	record->reserved2 = 0;
	record->error = sk->sk_err;
	record->at_ns = now;
	record->cookie = nm_tellable(nm_cookie(sk));
	nm_read_addresses(record, &sk->__sk_common);
	nm_read_tcp(record, tcp);
	nm_read_owner(record, socket);
	nm_submit(record);
	return 0;
}

/* What tells a socket apart when it is gone: written down while it is there. */
static __always_inline void nm_write_ends(struct nm_socket *socket, struct sock *sk)
{
	struct sock_common *common = &sk->__sk_common;

	if (common->skc_family == NM_AF_INET6) {
		bpf_probe_read_kernel(socket->local, 16, &common->skc_v6_rcv_saddr);
		bpf_probe_read_kernel(socket->remote, 16, &common->skc_v6_daddr);
	} else {
		nm_map_ipv4(socket->local, common->skc_rcv_saddr);
		nm_map_ipv4(socket->remote, common->skc_daddr);
	}
	socket->local_port = common->skc_num;
	socket->remote_port = bpf_ntohs(common->skc_dport);
	socket->netns = common->skc_net.net->ns.inum;
	socket->address = (__u64)sk;
}

/* A connection came in; in softirq. Written as a whole: each look into the hash has its price. */
static __always_inline int nm_accepted(struct sock *sk, __u64 now)
{
	struct nm_socket fresh = {};
	__u64 cookie = nm_cookie(sk);

	fresh.opened_ns = now;
	fresh.established_ns = now;
	fresh.role = NM_ROLE_SERVER;
	nm_write_ends(&fresh, sk);
	nm_inherit(&fresh, &sk->__sk_common);
	if (bpf_map_update_elem(&nm_connections, &cookie, &fresh, BPF_ANY))
		nm_count_lost(NM_LOST_STORAGE, 1);
	if (nm_tells_opened())
		nm_tell_tcp(sk, &fresh, NM_CHANGE_ESTABLISHED, NM_TCP_SYN_RECV, now);
	return 0;
}

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(nm_follow_state, struct sock *sk, int oldstate, int newstate)
{
	struct nm_socket *socket;
	__u64 cookie = 0, now;

	if (sk->sk_protocol != NM_IPPROTO_TCP)
		return 0;
	switch (newstate) {
	case NM_TCP_LISTEN:
		/* In the context of the process that called listen. */
		socket = nm_find_or_add(nm_cookie(sk));
		if (!socket)
			return 0;
		nm_claim(socket, NM_ATTRIBUTION_EXACT);
		socket->opened_ns = bpf_ktime_get_boot_ns();
		socket->role = NM_ROLE_LISTENER;
		socket->address = (__u64)sk;
		nm_add_listener(&sk->__sk_common, nm_current());
		return 0;

	case NM_TCP_SYN_SENT:
		/* In the context of the process that called connect. */
		socket = nm_find_socket(sk, &cookie);
		/* Where the hook at connect came first, it has done all this. */
		if (!socket || !socket->attempted) {
			socket = nm_find_or_add(nm_cookie(sk));
			if (!socket)
				return 0;
			nm_claim(socket, NM_ATTRIBUTION_EXACT);
			socket->opened_ns = bpf_ktime_get_boot_ns();
			socket->role = NM_ROLE_CLIENT;
		}
		socket->attempted = 0;
		socket->established_ns = 0;
		socket->address = (__u64)sk;
		if (nm_tells_opened())
			nm_tell_tcp(sk, socket, NM_CHANGE_OPENED, oldstate,
				    bpf_ktime_get_boot_ns());
		return 0;

	case NM_TCP_ESTABLISHED:
		now = bpf_ktime_get_boot_ns();
		if (oldstate == NM_TCP_SYN_RECV)
			return nm_accepted(sk, now);
		socket = nm_find_socket(sk, &cookie);
		if (!socket)
			return 0;
		socket->established_ns = now;
		/* Also where the kernel passed over the change before. */
		socket->attempted = 0;
		nm_write_ends(socket, sk);
		if (nm_tells_opened())
			nm_tell_tcp(sk, socket, NM_CHANGE_ESTABLISHED, oldstate, now);
		return 0;

	case NM_TCP_CLOSE:
		socket = nm_find_socket(sk, &cookie);
		if (oldstate == NM_TCP_LISTEN)
			/* skc_num is 0 once the port is given back. */
			nm_remove_listener(&sk->__sk_common, nm_local_port(sk));
		/* A listener is no connection; one that was never established on the accepting side
		 * neither. */
		else if (oldstate == NM_TCP_SYN_SENT && socket && socket->remote_port &&
			 !nm_local_port(sk)) {
			/* No local port was found, after the state had changed already: nothing was
			 * sent. This is told as of any other attempt that never left this host. */
			socket->attempted = 1;
			return 0;
		} else if (oldstate != NM_TCP_CLOSE && (oldstate != NM_TCP_SYN_RECV || socket))
			nm_tell_tcp(sk, socket, NM_CHANGE_ENDED, oldstate, bpf_ktime_get_boot_ns());
		if (socket)
			bpf_map_delete_elem(&nm_connections, &cookie);
		return 0;
	}
	return 0;
}

/* The last that is heard of a socket, and nothing where its end was told: the kernel does not run a
 * program on a CPU where it runs already (recursion), so that state changes in softirq are passed
 * over, whole batches of them, where softirq interrupts nm_follow_state in a process. Of 80 that
 * were passed over under load, 54 had been ends; with this program 5 were not told. */
SEC("tp_btf/tcp_destroy_sock")
int BPF_PROG(nm_follow_destruction, struct sock *sk)
{
	struct nm_socket *socket;
	__u64 cookie = 0;

	if (sk->sk_protocol != NM_IPPROTO_TCP)
		return 0;
	socket = nm_find_socket(sk, &cookie);
	if (!socket)
		return 0;
	if (socket->role == NM_ROLE_LISTENER)
		nm_remove_listener(&sk->__sk_common, nm_local_port(sk));
	else if (socket->opened_ns && !socket->attempted)
		/* An iterator may have written it down just after its end was told: then it has no
		 * beginning. What state it had before is not known any more. */
		nm_tell_tcp(sk, socket, NM_CHANGE_ENDED, NM_TCP_CLOSE, bpf_ktime_get_boot_ns());
	bpf_map_delete_elem(&nm_connections, &cookie);
	return 0;
}

/* ---- what programs of cgroups can read: by probing, as sockets are opaque to them ---- */

/* The address of a socket as a number: the verifier allows no arithmetic on the pointer it hands to
 * these programs, and probing needs the addresses of fields. What was stored is only a number. */
static __always_inline struct sock *nm_open(struct nm_socket *socket, void *sk)
{
	volatile __u64 *address = &socket->address;

	*address = (__u64)sk;
	return (struct sock *)*address;
}

static __always_inline void nm_probe_addresses(struct nm_connection_record *record, struct sock *sk)
{
	if (BPF_CORE_READ(sk, __sk_common.skc_family) == NM_AF_INET6) {
		BPF_CORE_READ_INTO(&record->local, sk, __sk_common.skc_v6_rcv_saddr.in6_u.u6_addr8);
	} else {
		nm_map_ipv4(record->local, BPF_CORE_READ(sk, __sk_common.skc_rcv_saddr));
	}
	record->local_port = BPF_CORE_READ(sk, __sk_common.skc_num);
	record->netns = BPF_CORE_READ(sk, __sk_common.skc_net.net, ns.inum);
}

/* A record with nothing counted, of a socket that only probing can read. */
static __always_inline struct nm_connection_record *
nm_reserve(struct sock *sk, const struct nm_socket *socket, __u8 protocol, __u64 cookie, __u64 now)
{
	struct nm_connection_record *record = bpf_ringbuf_reserve(&nm_records, sizeof(*record), 0);

	if (!record) {
		nm_count_lost(NM_LOST_ENDED, 1);
		return NULL;
	}
	__builtin_memset(record, 0, offsetof(struct nm_connection_record, owner));
	record->type = NM_RECORD_CONNECTION;
	record->change = NM_CHANGE_ENDED;
	record->protocol = protocol;
	record->at_ns = now;
	record->cookie = cookie;
	nm_probe_addresses(record, sk);
	nm_read_owner(record, socket);
	return record;
}

/* The attempt before came to nothing: no state ever changed. */
static __always_inline void nm_tell_never_sent(struct sock *sk, struct nm_socket *socket,
					       __u64 cookie, __u64 now)
{
	struct nm_connection_record *record = nm_reserve(sk, socket, NM_IPPROTO_TCP, cookie, now);

	socket->attempted = 0;
	if (!record)
		return;
	record->role = NM_ROLE_CLIENT;
	record->flags = NM_FLAG_NEVER_SENT;
	record->error = socket->error;
	record->state = NM_TCP_CLOSE;
	record->remote_port = socket->remote_port;
	__builtin_memcpy(record->remote, socket->remote, 16);
	nm_submit(record);
}

/* ---- datagrams ---- */

static __always_inline bool nm_is_datagram(__u32 protocol, __u32 type)
{
	return type == NM_SOCK_DGRAM &&
	       (protocol == NM_IPPROTO_UDP || protocol == NM_IPPROTO_ICMP ||
		protocol == NM_IPPROTO_ICMPV6);
}

static __always_inline bool nm_same_address(const __u8 *left, const __u8 *right)
{
	const __u64 *a = (const void *)left, *b = (const void *)right;

	return a[0] == b[0] && a[1] == b[1];
}

static __always_inline void nm_copy_address(__u8 *to, const __u8 *from)
{
	__u64 *a = (void *)to;
	const __u64 *b = (const void *)from;

	a[0] = b[0];
	a[1] = b[1];
}

static __always_inline void nm_fill_flow(struct nm_connection_record *record,
					 const struct nm_flow *flow)
{
	record->role = flow->role;
	record->error = flow->error;
	record->opened_ns = flow->opened_ns;
	record->last_seen_ns = flow->last_seen_ns;
	record->bytes_sent = flow->bytes_sent;
	record->bytes_received = flow->bytes_received;
	record->packets_sent = flow->packets_sent;
	record->packets_received = flow->packets_received;
}

/* Tells of the flow with the first peer, or (remote is NULL) of what could not be told apart. */
static __always_inline void nm_tell_flow(struct sock *sk, const struct nm_socket *socket,
					 const struct nm_datagrams *datagrams,
					 const struct nm_flow *flow, bool known, __u8 protocol,
					 __u8 change, __u8 flags, __u64 now)
{
	struct nm_connection_record *record =
	    nm_reserve(sk, socket, protocol, datagrams->cookie, now);

	if (!record)
		return;
	record->change = change;
	record->flags = flags;
	nm_fill_flow(record, flow);
	if (known) {
		nm_copy_address(record->remote, datagrams->remote);
		record->remote_port = datagrams->remote_port;
	} else {
		record->flags |= NM_FLAG_PEER_UNKNOWN;
	}
	if (datagrams->more_peers)
		record->flags |= NM_FLAG_MORE_PEERS;
	nm_submit(record);
}

static __always_inline __u8 nm_idle_flag(const struct nm_flow *flow, __u64 now)
{
	return nm_is_idle(flow->last_seen_ns, now) ? NM_FLAG_IDLE : 0;
}

/* The current thread, told from all others. */
static __always_inline __u64 nm_thread(void)
{
	return (__u64)bpf_get_current_task();
}

/* The place where this thread's peer waits for its length. */
static __always_inline struct nm_pending *nm_pending(struct nm_datagrams *datagrams, __u64 thread)
{
	/* Tasks are some KiB apart. */
	return &datagrams->pending[(thread >> 13) & (NM_PENDING - 1)];
}

#ifndef NM_OLD
/* A thread sends to, or received from, this peer; the length comes later in the same system call.
 */
static __always_inline void nm_expect(struct nm_datagrams *datagrams, const __u8 *remote,
				      __u16 port)
{
	__u64 thread = nm_thread();
	struct nm_pending *pending = nm_pending(datagrams, thread);
	__u64 before = __sync_val_compare_and_swap(&pending->thread, 0, thread);

	/* Another thread of the same slot is just between its two hooks: ours stays unknown, not
	 * wrong. */
	if (before != 0 && before != thread)
		return;
	nm_copy_address(pending->remote, remote);
	pending->remote_port = port;
}
#endif

static __always_inline void nm_start_flow(struct nm_flow *flow, bool sent, __u64 now)
{
	flow->role = sent ? NM_ROLE_CLIENT : NM_ROLE_SERVER;
	flow->error = 0;
	flow->bytes_sent = 0;
	flow->bytes_received = 0;
	flow->packets_sent = 0;
	flow->packets_received = 0;
	flow->last_seen_ns = now;
	flow->opened_ns = now;
}

static __always_inline void nm_add(struct nm_flow *flow, int length, __u32 packets, bool sent,
				   __u64 now)
{
	flow->last_seen_ns = now;
	if (length < 0) {
		flow->error = -length;
	} else if (sent) {
		__sync_fetch_and_add(&flow->bytes_sent, length);
		__sync_fetch_and_add(&flow->packets_sent, packets);
	} else {
		__sync_fetch_and_add(&flow->bytes_received, length);
		__sync_fetch_and_add(&flow->packets_received, packets);
	}
}

/* Counts what could not be told apart by peer. */
static __always_inline void nm_count_unknown(struct sock *sk, struct nm_datagrams *datagrams,
					     __u8 protocol, int length, __u32 packets, bool sent,
					     __u64 now)
{
	struct nm_flow *flow = &datagrams->unknown;

	if (flow->opened_ns && nm_is_idle(flow->last_seen_ns, now)) {
		nm_tell_flow(sk, &datagrams->socket, datagrams, flow, false, protocol,
			     NM_CHANGE_ENDED, NM_FLAG_IDLE, now);
		flow->opened_ns = 0;
	}
	if (!flow->opened_ns)
		nm_start_flow(flow, sent, now);
	nm_add(flow, length, packets, sent, now);
}

/* Counts with a peer beyond the first. */
static __always_inline int nm_count_further(struct sock *sk, struct nm_datagrams *datagrams,
					    const struct nm_flow_key *key, __u8 protocol,
					    int length, __u32 packets, bool sent, __u64 now)
{
	struct nm_flow *flow;

	flow = bpf_map_lookup_elem(&nm_flows, key);
	if (!flow) {
		struct nm_flow fresh = {};

		nm_start_flow(&fresh, sent, now);
		bpf_map_update_elem(&nm_flows, key, &fresh, BPF_NOEXIST);
		flow = bpf_map_lookup_elem(&nm_flows, key);
		if (!flow) {
			nm_count_lost(NM_LOST_FLOWS, 1);
			nm_count_unknown(sk, datagrams, protocol, length, packets, sent, now);
			return 0;
		}
		datagrams->more_peers = 1;
	}
	nm_add(flow, length, packets, sent, now);
	return 0;
}

/* Takes the place of the first peer; false where another CPU just does. */
static __always_inline bool nm_take_first(struct nm_datagrams *datagrams)
{
	if (datagrams->first_state != 0)
		return false;
#ifdef NM_OLD
	/* Two CPUs may both become the first. */
	return true;
#else
	return __sync_val_compare_and_swap(&datagrams->first_state, 0, 1) == 0;
#endif
}

/* Counts with a peer. The socket is told by its address, as programs of cgroups have it. */
static __always_inline int nm_count_with(struct sock *sk, struct nm_datagrams *datagrams,
					 struct nm_flow_key *key, __u8 protocol, int length,
					 __u32 packets, bool sent, __u64 now)
{
	struct nm_socket *socket = &datagrams->socket;
	__u64 quiet_since;

	if (nm_take_first(datagrams)) {
		nm_copy_address(datagrams->remote, key->remote);
		datagrams->remote_port = key->remote_port;
		nm_start_flow(&datagrams->first, sent, now);
		datagrams->first_state = 2;
		if (nm_tells_opened())
			nm_tell_flow(sk, socket, datagrams, &datagrams->first, true, protocol,
				     NM_CHANGE_OPENED, 0, now);
	}
	if (datagrams->first_state != 2 || !nm_same_address(datagrams->remote, key->remote) ||
	    datagrams->remote_port != key->remote_port) {
		key->cookie = datagrams->cookie;
		return nm_count_further(sk, datagrams, key, protocol, length, packets, sent, now);
	}

	quiet_since = datagrams->first.last_seen_ns;
	if (nm_is_idle(quiet_since, now)) {
		struct nm_flow before = datagrams->first;

		nm_start_flow(&datagrams->first, sent, now);
		nm_tell_flow(sk, socket, datagrams, &before, true, protocol, NM_CHANGE_ENDED,
			     NM_FLAG_IDLE, now);
		if (nm_tells_opened())
			nm_tell_flow(sk, socket, datagrams, &datagrams->first, true, protocol,
				     NM_CHANGE_OPENED, 0, now);
	}
	nm_add(&datagrams->first, length, packets, sent, now);
	return 0;
}

#ifndef NM_OLD
static __always_inline int nm_count_datagram(struct sock *sk, int length, bool sent, __u64 now)
{
	struct nm_datagrams *datagrams;
	struct nm_pending *pending;
	struct nm_flow_key key = {};
	__u64 thread = nm_thread();

	datagrams = bpf_sk_storage_get(&nm_datagram_sockets, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	if (!datagrams) {
		nm_count_lost(NM_LOST_STORAGE, 1);
		return 0;
	}
	nm_use(&datagrams->socket);
	if (!datagrams->cookie)
		datagrams->cookie = bpf_get_socket_cookie(sk);

	pending = nm_pending(datagrams, thread);
	if (pending->thread == thread) {
		nm_copy_address(key.remote, pending->remote);
		key.remote_port = pending->remote_port;
		pending->thread = 0;
	} else if (sk->__sk_common.skc_state == NM_TCP_ESTABLISHED) {
		if (sk->__sk_common.skc_family == NM_AF_INET6)
			bpf_probe_read_kernel(key.remote, 16, &sk->__sk_common.skc_v6_daddr);
		else
			nm_map_ipv4(key.remote, sk->__sk_common.skc_daddr);
		key.remote_port = bpf_ntohs(sk->__sk_common.skc_dport);
	} else {
		/* Errors of waiting tell nothing about anybody. */
		if (length < 0)
			return 0;
		nm_count_unknown(sk, datagrams, sk->sk_protocol, length, 1, sent, now);
		return 0;
	}
	return nm_count_with(sk, datagrams, &key, sk->sk_protocol, length, 1, sent, now);
}

/* A process sent or received: who uses the socket, and of datagrams how much. */
static __always_inline int nm_follow_use(struct sock *sk, int length, int flags, bool sent)
{
	struct nm_socket *socket;

	if (!sk || !nm_is_internet(sk->__sk_common.skc_family))
		return 0;
	if (sk->sk_protocol == NM_IPPROTO_TCP) {
		socket = nm_find(sk->__sk_common.skc_cookie.counter);
		if (socket)
			nm_use(socket);
		return 0;
	}
	if (!nm_is_datagram(sk->sk_protocol, sk->sk_type))
		return 0;
	/* What is looked at stays, and will be received once more; what could not be done yet is
	 * tried again. */
	if (!sent && (flags & (NM_MSG_PEEK | NM_MSG_ERRQUEUE)))
		length = -NM_EAGAIN;
	if (length == -NM_EAGAIN || length == -NM_EINTR || length == -NM_ERESTARTSYS) {
		struct nm_datagrams *datagrams =
		    bpf_sk_storage_get(&nm_datagram_sockets, sk, NULL, 0);
		__u64 thread = nm_thread();

		if (datagrams && nm_pending(datagrams, thread)->thread == thread)
			nm_pending(datagrams, thread)->thread = 0;
		return 0;
	}
	return nm_count_datagram(sk, length, sent, bpf_ktime_get_boot_ns());
}

SEC("tp_btf/sock_send_length")
int BPF_PROG(nm_follow_send, struct sock *sk, int length, int flags)
{
	return nm_follow_use(sk, length, flags, true);
}

SEC("tp_btf/sock_recv_length")
int BPF_PROG(nm_follow_receive, struct sock *sk, int length, int flags)
{
	return nm_follow_use(sk, length, flags, false);
}

SEC("tp_btf/inet_sk_error_report")
int BPF_PROG(nm_follow_error, struct sock *sk)
{
	struct nm_datagrams *datagrams;

	if (!nm_is_datagram(sk->sk_protocol, sk->sk_type))
		return 0;
	datagrams = bpf_sk_storage_get(&nm_datagram_sockets, sk, NULL, 0);
	if (!datagrams)
		return 0;
	if (sk->__sk_common.skc_state == NM_TCP_ESTABLISHED)
		datagrams->first.error = sk->sk_err;
	else
		datagrams->unknown.error = sk->sk_err;
	return 0;
}
#endif

/* ---- programs of cgroups: in the context of the process; they always allow ---- */

enum { NM_ALLOW = 1 };

static __always_inline void nm_read_peer(struct bpf_sock_addr *ctx, bool ipv6, __u8 *remote,
					 __u16 *port)
{
	*port = bpf_ntohs((__u16)ctx->user_port);
	if (ipv6) {
		__u32 *words = (void *)remote;

		words[0] = ctx->user_ip6[0];
		words[1] = ctx->user_ip6[1];
		words[2] = ctx->user_ip6[2];
		words[3] = ctx->user_ip6[3];
	} else {
		nm_map_ipv4(remote, ctx->user_ip4);
	}
}

static __always_inline void nm_begin_attempt(struct nm_socket *socket, void *sk, const __u8 *remote,
					     __u16 port, __u64 now)
{
	nm_open(socket, sk);
	nm_claim(socket, NM_ATTRIBUTION_EXACT);
	nm_copy_address(socket->remote, remote);
	socket->remote_port = port;
	socket->opened_ns = now;
	socket->attempted = 1;
	socket->error = 0;
	socket->role = NM_ROLE_CLIENT;
}

/* A TCP socket begins to connect, for the first time or again. */
static __always_inline int nm_attempt(struct nm_socket *socket, void *sk, __u64 cookie,
				      const __u8 *remote, __u16 port, __u64 now)
{
	struct nm_socket fresh = {};

	if (socket) {
		nm_begin_attempt(socket, sk, remote, port, now);
		return NM_ALLOW;
	}
	nm_begin_attempt(&fresh, sk, remote, port, now);
	if (bpf_map_update_elem(&nm_connections, &cookie, &fresh, BPF_ANY))
		nm_count_lost(NM_LOST_STORAGE, 1);
	return NM_ALLOW;
}

static __always_inline int nm_connect(struct bpf_sock_addr *ctx, bool ipv6)
{
	struct bpf_sock *sk = ctx->sk;
	struct nm_datagrams *datagrams;
	struct nm_socket *socket;
	__u8 remote[16] __attribute__((aligned(8)));
	__u32 protocol = ctx->protocol;
	__u16 port;
	__u64 now, cookie;

	if (!sk || (protocol != NM_IPPROTO_TCP && !nm_is_datagram(protocol, ctx->type)))
		return NM_ALLOW;
	now = bpf_ktime_get_boot_ns();
	nm_read_peer(ctx, ipv6, remote, &port);
	cookie = bpf_get_socket_cookie(ctx);
	if (protocol == NM_IPPROTO_TCP) {
		socket = nm_find(cookie);
		if (socket && socket->attempted)
			nm_tell_never_sent(nm_open(socket, sk), socket, cookie, now);
		return nm_attempt(socket, sk, cookie, remote, port, now);
	}

	datagrams = bpf_sk_storage_get(&nm_datagram_sockets, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	if (!datagrams) {
		nm_count_lost(NM_LOST_STORAGE, 1);
		return NM_ALLOW;
	}
	socket = &datagrams->socket;
	nm_claim(socket, NM_ATTRIBUTION_EXACT);
	datagrams->cookie = cookie;
	if (datagrams->first_state == 2) {
		if (nm_same_address(datagrams->remote, remote) && datagrams->remote_port == port)
			return NM_ALLOW;
		nm_tell_flow(nm_open(socket, sk), socket, datagrams, &datagrams->first, true,
			     protocol, NM_CHANGE_ENDED,
			     NM_FLAG_CONNECTED | nm_idle_flag(&datagrams->first, now), now);
	}
	nm_copy_address(datagrams->remote, remote);
	datagrams->remote_port = port;
	nm_start_flow(&datagrams->first, true, now);
	datagrams->first_state = 2;
	if (nm_tells_opened())
		nm_tell_flow(nm_open(socket, sk), socket, datagrams, &datagrams->first, true,
			     protocol, NM_CHANGE_OPENED, NM_FLAG_CONNECTED, now);
	return NM_ALLOW;
}

SEC("cgroup/connect4")
int nm_connect4(struct bpf_sock_addr *ctx)
{
	return nm_connect(ctx, false);
}

SEC("cgroup/connect6")
int nm_connect6(struct bpf_sock_addr *ctx)
{
	return nm_connect(ctx, true);
}

static __always_inline int nm_address(struct bpf_sock_addr *ctx, bool ipv6)
{
	struct bpf_sock *sk = ctx->sk;
	struct nm_datagrams *datagrams;

	if (!sk || !nm_is_datagram(ctx->protocol, ctx->type))
		return NM_ALLOW;
	datagrams = bpf_sk_storage_get(&nm_datagram_sockets, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	if (!datagrams)
		return NM_ALLOW;
#ifndef NM_OLD
	if (nm_has_lengths) {
		__u8 remote[16] __attribute__((aligned(8)));
		__u16 port;

		nm_read_peer(ctx, ipv6, remote, &port);
		nm_expect(datagrams, remote, port);
		return NM_ALLOW;
	}
#endif
	nm_use(&datagrams->socket);
	return NM_ALLOW;
}

SEC("cgroup/sendmsg4")
int nm_sendmsg4(struct bpf_sock_addr *ctx)
{
	return nm_address(ctx, false);
}

SEC("cgroup/sendmsg6")
int nm_sendmsg6(struct bpf_sock_addr *ctx)
{
	return nm_address(ctx, true);
}

SEC("cgroup/recvmsg4")
int nm_recvmsg4(struct bpf_sock_addr *ctx)
{
	return nm_address(ctx, false);
}

SEC("cgroup/recvmsg6")
int nm_recvmsg6(struct bpf_sock_addr *ctx)
{
	return nm_address(ctx, true);
}

SEC("cgroup/sock_release")
int nm_release(struct bpf_sock *ctx)
{
	struct nm_datagrams *datagrams;
	struct nm_socket *socket;
	struct sock *sk;
	__u32 protocol = ctx->protocol;
	__u64 now, cookie;
	__u8 flags;

	if (protocol == NM_IPPROTO_TCP) {
		cookie = bpf_get_socket_cookie(ctx);
		socket = nm_find(cookie);
#ifdef NM_OLD
		if (!socket)
			socket = nm_find_by_address(ctx, &cookie);
#endif
		if (!socket)
			return NM_ALLOW;
		/* It left, though the kernel passed over each change that tells so. */
		if (ctx->state != NM_TCP_CLOSE)
			socket->attempted = 0;
		if (socket->attempted) {
			nm_tell_never_sent(nm_open(socket, ctx), socket, cookie,
					   bpf_ktime_get_boot_ns());
			/* No state will change any more. */
			bpf_map_delete_elem(&nm_connections, &cookie);
			return NM_ALLOW;
		}
		if (socket->attribution == NM_ATTRIBUTION_INHERITED ||
		    socket->attribution == NM_ATTRIBUTION_UNKNOWN)
			nm_claim(socket, NM_ATTRIBUTION_EXACT);
		/* An iterator may have written it down just after it ended. */
		if (ctx->state == NM_TCP_CLOSE)
			bpf_map_delete_elem(&nm_connections, &cookie);
		return NM_ALLOW;
	}
	if (!nm_is_datagram(protocol, ctx->type))
		return NM_ALLOW;
	datagrams = bpf_sk_storage_get(&nm_datagram_sockets, ctx, NULL, 0);
	if (!datagrams || (!datagrams->first.opened_ns && !datagrams->unknown.opened_ns))
		return NM_ALLOW;
	socket = &datagrams->socket;
	/* Where packets are counted, nothing else tells who pings. */
	if (socket->attribution == NM_ATTRIBUTION_UNKNOWN)
		nm_claim(socket, NM_ATTRIBUTION_EXACT);
	sk = nm_open(socket, ctx);
	now = bpf_ktime_get_boot_ns();
	flags = NM_FLAG_SOCKET_CLOSED;
	if (ctx->state == NM_TCP_ESTABLISHED)
		flags |= NM_FLAG_CONNECTED;
	/* A flow that was idle for long has ended before its socket. */
	if (datagrams->first.opened_ns)
		nm_tell_flow(sk, socket, datagrams, &datagrams->first, true, protocol,
			     NM_CHANGE_ENDED, flags | nm_idle_flag(&datagrams->first, now), now);
	if (datagrams->unknown.opened_ns)
		nm_tell_flow(sk, socket, datagrams, &datagrams->unknown, false, protocol,
			     NM_CHANGE_ENDED, flags | nm_idle_flag(&datagrams->unknown, now), now);
	return NM_ALLOW;
}

/* ---- system calls, on request: a few ns for every one of the host ---- */

/* struct pt_regs is of the architecture: what a program asks for is found under one of these names.
 */
struct pt_regs___amd64 {
	unsigned long di;
	unsigned long orig_ax;
} __attribute__((preserve_access_index));

struct pt_regs___aarch64 {
	__u64 orig_x0;
	__s32 syscallno;
} __attribute__((preserve_access_index));

enum nm_system_call {
	NM_OTHER_CALL = 0,
	NM_CONNECT_CALL = 1,
	NM_ACCEPT_CALL = 2,
};

static __always_inline enum nm_system_call nm_read_call(void *regs, long *descriptor)
{
	if (bpf_core_field_exists(((struct pt_regs___amd64 *)regs)->orig_ax)) {
		long number = BPF_CORE_READ((struct pt_regs___amd64 *)regs, orig_ax);

		if (number == 43 || number == 288)
			return NM_ACCEPT_CALL;
		if (number != 42)
			return NM_OTHER_CALL;
		*descriptor = BPF_CORE_READ((struct pt_regs___amd64 *)regs, di);
		return NM_CONNECT_CALL;
	}
	if (bpf_core_field_exists(((struct pt_regs___aarch64 *)regs)->syscallno)) {
		long number = BPF_CORE_READ((struct pt_regs___aarch64 *)regs, syscallno);

		if (number == 202 || number == 242)
			return NM_ACCEPT_CALL;
		if (number != 203)
			return NM_OTHER_CALL;
		*descriptor = BPF_CORE_READ((struct pt_regs___aarch64 *)regs, orig_x0);
		return NM_CONNECT_CALL;
	}
	return NM_OTHER_CALL;
}

/* The connection behind a file descriptor of the current process, if it is one of TCP that is
 * followed. */
static __always_inline struct nm_socket *nm_of_descriptor(long descriptor)
{
	struct task_struct *task = nm_current();
	struct fdtable *table = BPF_CORE_READ(task, files, fdt);
	struct file **files = BPF_CORE_READ(table, fd);
	struct file *file = NULL;
	struct socket *socket;
	struct sock *sk;
	__u64 cookie;

	if (descriptor < 0 || descriptor >= BPF_CORE_READ(table, max_fds))
		return NULL;
	bpf_probe_read_kernel(&file, sizeof(file), files + descriptor);
	if (!file)
		return NULL;
	/* That it is a socket at all follows from the call's success, or its errors. */
	socket = BPF_CORE_READ(file, private_data);
	sk = BPF_CORE_READ(socket, sk);
	if (!sk || BPF_CORE_READ(sk, sk_protocol) != NM_IPPROTO_TCP)
		return NULL;
	cookie = BPF_CORE_READ(sk, __sk_common.skc_cookie.counter);
	return nm_find(cookie ? cookie : (__u64)sk);
}

SEC("tp_btf/sys_exit")
int BPF_PROG(nm_follow_calls, void *regs, long result)
{
	long descriptor = result;
	enum nm_system_call call = nm_read_call(regs, &descriptor);
	struct nm_socket *socket;

	if (call == NM_OTHER_CALL)
		return 0;
	if (call == NM_ACCEPT_CALL) {
		if (result < 0)
			return 0;
		socket = nm_of_descriptor(result);
		if (socket && socket->role == NM_ROLE_SERVER)
			nm_claim(socket, NM_ATTRIBUTION_EXACT);
		return 0;
	}
	/* Only what no state change tells of. */
	if (result >= 0 || result == -NM_EINPROGRESS || result == -NM_EBADF ||
	    result == -NM_ENOTSOCK)
		return 0;
	socket = nm_of_descriptor(descriptor);
	if (socket && socket->attempted)
		socket->error = -result;
	return 0;
}

/* ---- datagrams packet by packet, where nothing tells of whole ones ---- */

static __always_inline int nm_count_packet(struct __sk_buff *skb, bool sent)
{
	struct nm_datagrams *datagrams;
	struct nm_flow_key key = {};
	struct nm_udp udp;
	struct bpf_sock *sk = skb->sk;
	__u32 headers, protocol, packets;
	int length;

	/* TCP, nearly always: back to where it came from before anything else is read. */
	if (!sk)
		return NM_ALLOW;
	sk = bpf_sk_fullsock(sk);
	if (!sk || !nm_is_datagram(sk->protocol, sk->type))
		return NM_ALLOW;
	if (skb->protocol == bpf_htons(NM_ETH_P_IP)) {
		struct nm_ipv4 ip;

		if (bpf_skb_load_bytes(skb, 0, &ip, sizeof(ip)))
			return NM_ALLOW;
		headers = (ip.version_and_length & 0xf) * 4;
		protocol = ip.protocol;
		nm_map_ipv4(key.remote, sent ? ip.destination : ip.source);
	} else {
		struct nm_ipv6 ip;

		if (bpf_skb_load_bytes(skb, 0, &ip, sizeof(ip)))
			return NM_ALLOW;
		headers = sizeof(ip);
		protocol = ip.next;
		__builtin_memcpy(key.remote, sent ? ip.destination : ip.source, 16);
	}
	if (protocol != sk->protocol)
		return NM_ALLOW;
	if (protocol == NM_IPPROTO_UDP) {
		if (bpf_skb_load_bytes(skb, headers, &udp, sizeof(udp)))
			return NM_ALLOW;
		key.remote_port = bpf_ntohs(sent ? udp.destination : udp.source);
		/* ICMP's header is written and read by programs, with the rest. */
		headers += sizeof(udp);
	}
	packets = skb->gso_segs > 1 ? skb->gso_segs : 1;
	length = skb->len - headers;
	if (length < 0)
		return NM_ALLOW;

	datagrams = bpf_sk_storage_get(&nm_datagram_sockets, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	if (!datagrams) {
		nm_count_lost(NM_LOST_STORAGE, 1);
		return NM_ALLOW;
	}
	if (!datagrams->cookie)
		datagrams->cookie = bpf_get_socket_cookie(skb);
	nm_count_with(nm_open(&datagrams->socket, sk), datagrams, &key, protocol, length, packets,
		      sent, bpf_ktime_get_boot_ns());
	return NM_ALLOW;
}

SEC("cgroup_skb/egress")
int nm_packet_out(struct __sk_buff *skb)
{
	return nm_count_packet(skb, true);
}

SEC("cgroup_skb/ingress")
int nm_packet_in(struct __sk_buff *skb)
{
	return nm_count_packet(skb, false);
}

#ifndef NM_OLD
/* ---- all sockets now ---- */

static __always_inline void nm_read_queues(struct nm_socket_record *record, struct tcp_sock *tcp)
{
	struct sock *sk = &tcp->inet_conn.icsk_inet.sk;

	if (sk->__sk_common.skc_state == NM_TCP_LISTEN) {
		record->receive_queue = sk->sk_ack_backlog;
		record->send_queue = sk->sk_max_ack_backlog;
		if (tcp->inet_conn.icsk_accept_queue.qlen.counter)
			record->connection.flags |= NM_FLAG_HANDSHAKES;
		return;
	}
	record->receive_queue = tcp->rcv_nxt - tcp->copied_seq;
	/* A FIN takes a number, and there is nothing to read of it. */
	if (record->receive_queue && (sk->__sk_common.skc_flags & NM_SOCK_DONE))
		record->receive_queue--;
	record->send_queue = tcp->write_seq - tcp->snd_una;
}

/* What is known of a socket; if that is nothing, it is older than the programs, and whoever holds
 * it now is taken for its owner. A function of its own, as the stack of the iterator is full. */
static __noinline struct nm_socket *nm_adopt(struct sock *sk, struct task_struct *task,
					     __u64 cookie)
{
	struct nm_datagrams *datagrams;
	struct nm_socket *socket;

	if (sk->sk_protocol != NM_IPPROTO_TCP) {
		datagrams =
		    bpf_sk_storage_get(&nm_datagram_sockets, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
		if (!datagrams)
			return NULL;
		socket = &datagrams->socket;
	} else if (sk->__sk_common.skc_state == NM_TCP_CLOSE) {
		socket = nm_find(cookie);
	} else {
		socket = nm_find_or_add(cookie);
	}
	if (!socket || socket->owner.pid)
		return socket;
	if (sk->sk_protocol == NM_IPPROTO_TCP)
		nm_write_ends(socket, sk);
	nm_read_process(&socket->owner, task);
	socket->attribution = NM_ATTRIBUTION_SNAPSHOT;
	if (sk->sk_protocol == NM_IPPROTO_TCP && sk->__sk_common.skc_state == NM_TCP_LISTEN) {
		socket->role = NM_ROLE_LISTENER;
		nm_add_listener(&sk->__sk_common, task);
	}
	return socket;
}

/* When the last list began, in the kernel's ticks: what came or went since is of later. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} nm_list_began SEC(".maps");

static __noinline int nm_note_beginning(void)
{
	__u32 zero = 0;
	__u32 *began = bpf_map_lookup_elem(&nm_list_began, &zero);

	if (began)
		*began = (__u32)bpf_jiffies64();
	return 0;
}

/* Whether the kernel wrote down this time before that one. */
static __always_inline bool nm_ticks_before(__u32 at, __u32 since)
{
	return (__s32)(at - since) < 0;
}

/* Whether a TCP connection is established, and nothing was sent, received or acknowledged on it for
 * as long as was asked for: the reader knows it from before. Reading all of it again would take
 * most of the time of a list. */
static __always_inline bool nm_is_quiet(const struct tcp_sock *tcp)
{
	__u32 zero = 0;
	const struct nm_settings *settings = bpf_map_lookup_elem(&nm_settings, &zero);

	return settings && settings->quiet &&
	       tcp->inet_conn.icsk_inet.sk.__sk_common.skc_state == NM_TCP_ESTABLISHED &&
	       nm_ticks_before(tcp->lsndtime, settings->quiet_since) &&
	       nm_ticks_before(tcp->rcv_tstamp, settings->quiet_since) &&
	       nm_ticks_before(tcp->inet_conn.icsk_ack.lrcvtime, settings->quiet_since);
}

/* Tells of such a connection by its cookie alone; 1 if it is one. */
static __noinline int nm_tell_quiet(struct seq_file *seq, struct sock *sk)
{
	struct nm_quiet_record record = {};
	struct tcp_sock *tcp = bpf_skc_to_tcp_sock(sk);

	if (!tcp || !nm_is_quiet(tcp))
		return 0;
	record.type = NM_RECORD_QUIET;
	record.netns = sk->__sk_common.skc_net.net->ns.inum;
	record.cookie = sk->__sk_common.skc_cookie.counter;
	if (!record.cookie)
		return 0;
	bpf_seq_write(seq, &record, sizeof(record));
	return 1;
}

SEC("iter/task_file")
int nm_list_sockets(struct bpf_iter__task_file *ctx)
{
	struct task_struct *task = ctx->task;
	struct file *file = ctx->file;
	struct nm_socket_record record = {};
	struct nm_datagrams *datagrams = NULL;
	struct nm_socket *socket;
	struct tcp_sock *tcp;
	struct socket *file_socket;
	struct sock *sk;
	__u64 cookie;

	if (!task || !file)
		return 0;
	if (ctx->meta->seq_num == 0)
		nm_note_beginning();
	file_socket = bpf_sock_from_file(file);
	if (!file_socket)
		return 0;
	sk = file_socket->sk;
	if (!sk || !nm_is_internet(sk->__sk_common.skc_family))
		return 0;
	/* Its TCP sockets are the kernel's own: the other iterator has them, with the same inode.
	 */
	if (sk->sk_protocol == NM_IPPROTO_MPTCP) {
		record.connection.type = NM_RECORD_HOLDER;
		record.inode = file->f_inode->i_ino;
		nm_read_process(&record.holder, task);
		bpf_seq_write(ctx->meta->seq, &record, sizeof(record));
		return 0;
	}
	if (sk->sk_protocol != NM_IPPROTO_TCP && !nm_is_datagram(sk->sk_protocol, sk->sk_type))
		return 0;
	if (sk->sk_protocol == NM_IPPROTO_TCP && nm_tell_quiet(ctx->meta->seq, sk))
		return 0;

	nm_read_process(&record.holder, task);
	cookie = bpf_get_socket_cookie(sk);
	/* Without programs that follow it, nothing is written down, and the holder is told. */
	socket = nm_follows ? nm_adopt(sk, task, cookie) : NULL;
	if (socket && sk->sk_protocol != NM_IPPROTO_TCP)
		datagrams = bpf_sk_storage_get(&nm_datagram_sockets, sk, NULL, 0);
	record.connection.type = NM_RECORD_CONNECTION;
	record.connection.protocol = sk->sk_protocol;
	record.connection.state = sk->__sk_common.skc_state;
	record.connection.error = sk->sk_err;
	record.connection.at_ns = bpf_ktime_get_boot_ns();
	record.connection.cookie = cookie;
	record.inode = file->f_inode->i_ino;
	nm_read_addresses(&record.connection, &sk->__sk_common);
	nm_read_owner(&record.connection, socket);
	if (sk->sk_protocol == NM_IPPROTO_TCP) {
		tcp = bpf_skc_to_tcp_sock(sk);
		if (!tcp)
			return 0;
		nm_read_tcp(&record.connection, tcp);
		nm_read_queues(&record, tcp);
		if (socket && socket->attempted && record.connection.state == NM_TCP_CLOSE) {
			record.connection.flags |= NM_FLAG_NEVER_SENT;
			record.connection.remote_port = socket->remote_port;
			nm_copy_address(record.connection.remote, socket->remote);
		}
	} else {
		if (record.connection.state == NM_TCP_ESTABLISHED)
			record.connection.flags |= NM_FLAG_CONNECTED;
		if (datagrams && datagrams->first_state == 2) {
			nm_fill_flow(&record.connection, &datagrams->first);
			nm_copy_address(record.connection.remote, datagrams->remote);
			record.connection.remote_port = datagrams->remote_port;
			if (datagrams->more_peers)
				record.connection.flags |= NM_FLAG_MORE_PEERS;
		}
	}
	bpf_seq_write(ctx->meta->seq, &record, sizeof(record));
	if (datagrams && datagrams->unknown.opened_ns) {
		nm_fill_flow(&record.connection, &datagrams->unknown);
		record.connection.flags |= NM_FLAG_PEER_UNKNOWN;
		bpf_seq_write(ctx->meta->seq, &record, sizeof(record));
	}
	return 0;
}

/* TCP sockets that no process holds: waiting to be accepted, closing, or kept for stray packets. */
SEC("iter/tcp")
int nm_list_orphans(struct bpf_iter__tcp *ctx)
{
	struct sock_common *common = ctx->sk_common;
	struct nm_socket_record record = {};
	struct tcp_sock *tcp;

	if (!common)
		return 0;
	record.connection.type = NM_RECORD_CONNECTION;
	record.connection.protocol = NM_IPPROTO_TCP;
	record.connection.state = common->skc_state;
	record.connection.at_ns = bpf_ktime_get_boot_ns();
	tcp = bpf_skc_to_tcp_sock(common);
	if (tcp) {
		struct sock *sk = &tcp->inet_conn.icsk_inet.sk;

		if (sk->sk_socket && (!nm_lists_held() || nm_is_quiet(tcp)))
			return 0;
		record.inode = BPF_CORE_READ(sk, sk_socket, file, f_inode, i_ino);
		record.connection.error = sk->sk_err;
		record.connection.cookie = bpf_get_socket_cookie(tcp);
		nm_read_addresses(&record.connection, common);
		nm_read_owner(&record.connection, nm_find(common->skc_cookie.counter));
		nm_read_tcp(&record.connection, tcp);
		nm_read_queues(&record, tcp);
	} else {
		/* What the kernel keeps in a socket's place, also where the other side has not
		 * closed yet. */
		if (common->skc_state == NM_TCP_TIME_WAIT) {
			record.connection.flags |= NM_FLAG_SOCKET_CLOSED;
			record.connection.state =
			    BPF_CORE_READ((struct inet_timewait_sock *)common, tw_substate);
		}
		record.connection.cookie = common->skc_cookie.counter;
		nm_read_addresses(&record.connection, common);
	}
	bpf_seq_write(ctx->meta->seq, &record, sizeof(record));
	return 0;
}

/* TCP sockets that are gone, and whose end nothing told of: in softirq the kernel may pass over the
 * last change of a socket and its destruction too. A socket never moves and its number never comes
 * again, so that what stands where it was tells whether it is still there. User space takes out
 * what it is told of. */
SEC("iter/bpf_map_elem")
int nm_list_unseen(struct bpf_iter__bpf_map_elem *ctx)
{
	const __u64 *cookie = ctx->key;
	const struct nm_socket *socket = ctx->value;
	struct nm_socket_record record = {};
	struct sock *sk;

	if (!cookie || !socket || !socket->address)
		return 0;
	sk = (struct sock *)socket->address;
	if ((__u64)BPF_CORE_READ(sk, __sk_common.skc_cookie.counter) == *cookie &&
	    (BPF_CORE_READ(sk, __sk_common.skc_state) != NM_TCP_CLOSE || socket->attempted))
		return 0;
	record.connection.type = NM_RECORD_CONNECTION;
	record.connection.change = NM_CHANGE_ENDED;
	record.connection.protocol = NM_IPPROTO_TCP;
	record.connection.state = NM_TCP_CLOSE;
	record.connection.at_ns = bpf_ktime_get_boot_ns();
	record.connection.cookie = *cookie;
	nm_read_owner(&record.connection, socket);
	__builtin_memcpy(record.connection.local, socket->local, 16);
	__builtin_memcpy(record.connection.remote, socket->remote, 16);
	record.connection.local_port = socket->local_port;
	record.connection.remote_port = socket->remote_port;
	record.connection.netns = socket->netns;
	bpf_seq_write(ctx->meta->seq, &record, sizeof(record));
	return 0;
}
#endif
