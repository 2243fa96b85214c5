/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * The kernel's own structures, as far as flow.bpf.c and drops.bpf.c read them. libbpf finds the
 * fields' places in the running kernel when it loads (CO-RE), so only names and types count here;
 * a field that a kernel does not have is asked for before it is read.
 */
#ifndef NETMON_KERNEL_H
#define NETMON_KERNEL_H

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

typedef struct {
	__s64 counter;
} atomic64_t;

typedef struct {
	int counter;
} atomic_t;

struct in6_addr {
	union {
		__u8 u6_addr8[16];
	} in6_u;
};

struct ns_common {
	unsigned int inum;
};

struct net {
	struct ns_common ns;
};

typedef struct {
	struct net *net;
} possible_net_t;

struct sock_common {
	__be32 skc_daddr;
	__be32 skc_rcv_saddr;
	__be16 skc_dport;
	__u16 skc_num;
	unsigned short skc_family;
	volatile unsigned char skc_state;
	possible_net_t skc_net;
	unsigned long skc_flags;
	struct in6_addr skc_v6_daddr;
	struct in6_addr skc_v6_rcv_saddr;
	atomic64_t skc_cookie;
};

struct inet_timewait_sock {
	struct sock_common __tw_common;
	volatile unsigned char tw_substate;
};

struct file;

struct socket {
	struct file *file;
	struct sock *sk;
};

struct inode {
	unsigned long i_ino;
};

struct sock {
	struct sock_common __sk_common;
	int sk_err;
	unsigned int sk_ack_backlog; /* u32 since 5.5 */
	unsigned int sk_max_ack_backlog;
	__u16 sk_protocol;
	__u16 sk_type;
	struct socket *sk_socket;
};

struct inet_sock {
	struct sock sk;
	__be16 inet_sport;
};

struct request_sock_queue {
	atomic_t qlen;
};

struct inet_connection_sock {
	struct inet_sock icsk_inet;
	struct request_sock_queue icsk_accept_queue;
	struct {
		__u32 lrcvtime;
	} icsk_ack;
};

struct tcp_sock {
	struct inet_connection_sock inet_conn;
	__u64 bytes_sent;
	__u64 bytes_retrans;
	__u64 bytes_received;
	__u32 segs_out;
	__u32 segs_in;
	__u32 total_retrans;
	__u32 srtt_us;
	__u32 rcv_nxt;
	__u32 copied_seq;
	__u32 write_seq;
	__u32 snd_una;
	__u32 lsndtime;
	__u32 rcv_tstamp;
};

struct qstr {
	const unsigned char *name;
};

struct dentry {
	struct dentry *d_parent;
	struct qstr d_name;
};

struct vfsmount {
	struct dentry *mnt_root;
};

struct mount {
	struct mount *mnt_parent;
	struct dentry *mnt_mountpoint;
	struct vfsmount mnt;
};

struct path {
	struct vfsmount *mnt;
	struct dentry *dentry;
};

struct file {
	struct path f_path;
	struct inode *f_inode;
	void *private_data;
};

struct fdtable {
	unsigned int max_fds;
	struct file **fd;
};

struct files_struct {
	struct fdtable *fdt;
};

struct mm_struct {
	struct file *exe_file;
	unsigned long arg_start;
	unsigned long arg_end;
};

struct kernfs_node {
	struct kernfs_node *parent;
	const char *name;
	__u64 id;
};

/* Since 6.15 (kernfs: use RCU to access kernfs_node::parent) the parent has another name. */
struct kernfs_node___rcu {
	struct kernfs_node *__parent;
};

struct cgroup {
	struct kernfs_node *kn;
};

struct css_set {
	struct cgroup *dfl_cgrp;
};

typedef struct {
	unsigned int val;
} kuid_t;

struct cred {
	kuid_t euid;
};

struct task_struct {
	int pid;
	int tgid;
	__u64 start_boottime;
	__u64 self_exec_id;
	char comm[16];
	struct task_struct *group_leader;
	struct task_struct *real_parent;
	const struct cred *cred;
	struct mm_struct *mm;
	struct files_struct *files;
	struct css_set *cgroups;
};

struct net_device {
	int ifindex;
	possible_net_t nd_net;
};

struct sk_buff {
	struct net_device *dev;
	struct sock *sk;
	unsigned int len;
	int skb_iif;
	__be16 protocol;
	__u16 network_header;
	__u32 tail; /* an offset, as is end */
	__u32 end;
	unsigned char *head;
	unsigned char *data;
};

struct skb_shared_info {
	unsigned short gso_segs;
};

struct seq_file;

struct bpf_iter_meta {
	struct seq_file *seq;
	__u64 session_id;
	__u64 seq_num;
};

struct bpf_iter__task_file {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
	__u32 fd;
	struct file *file;
};

struct bpf_iter__tcp {
	struct bpf_iter_meta *meta;
	struct sock_common *sk_common;
	unsigned int uid;
};

struct bpf_iter__bpf_map_elem {
	struct bpf_iter_meta *meta;
	struct bpf_map *map;
	void *key;
	void *value;
};

#pragma clang attribute pop

/* Only asked for: whether the running kernel has it. */
enum bpf_func_id {
	BPF_FUNC_get_current_task_btf = 158, /* 5.11 */
	BPF_FUNC_check_mtu = 163,	     /* 5.12 */
	BPF_FUNC_loop = 181,		     /* 5.17 */
};

enum nm_kernel {
	NM_ETH_P_IP = 0x0800,
	NM_AF_INET = 2,
	NM_AF_INET6 = 10,
	NM_IPPROTO_ICMP = 1,
	NM_IPPROTO_TCP = 6,
	NM_IPPROTO_UDP = 17,
	NM_IPPROTO_ICMPV6 = 58,
	NM_IPPROTO_MPTCP = 262,
	NM_SOCK_STREAM = 1,
	NM_SOCK_DGRAM = 2,
	NM_SOCK_DONE = 1 << 1, /* enum sock_flags: a FIN was received */
	NM_EINTR = 4,
	NM_EBADF = 9,
	NM_EAGAIN = 11,
	NM_ENOTSOCK = 88,
	NM_EINPROGRESS = 115,
	NM_ERESTARTSYS = 512,
	NM_MSG_PEEK = 0x2,
	NM_MSG_ERRQUEUE = 0x2000,
};

/* include/net/tcp_states.h */
enum nm_tcp_state {
	NM_TCP_ESTABLISHED = 1,
	NM_TCP_SYN_SENT = 2,
	NM_TCP_SYN_RECV = 3,
	NM_TCP_FIN_WAIT1 = 4,
	NM_TCP_FIN_WAIT2 = 5,
	NM_TCP_TIME_WAIT = 6,
	NM_TCP_CLOSE = 7,
	NM_TCP_CLOSE_WAIT = 8,
	NM_TCP_LAST_ACK = 9,
	NM_TCP_LISTEN = 10,
	NM_TCP_CLOSING = 11,
	NM_TCP_NEW_SYN_RECV = 12,
};

#endif
