// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * Packets that the kernel dropped, and why: summed up where they happen, since a flood of them must
 * cost little and cross to user space as one number.
 *
 * The owner is that of the socket, as flow.bpf.c wrote it down. The current task is never asked: a
 * packet is dropped in softirq, in whatever process was interrupted, or in its sender's.
 */
#include "netmon.h"
#include "drops.h"
#include "kernel.h"
#include "owners.h"
#include "packet.h"
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>

char LICENSE[] SEC("license") = "Dual MIT/GPL";

/* How many arguments kfree_skb has: 2, with the reason 3 (5.17), with the receiving socket 4
 * (6.11). User space reads this from the kernel's BTF, as it does the number of the reason that is
 * none. */
const volatile __u32 nm_arguments = 2;
const volatile __u32 nm_consumed = 0;

/* Whether the maps of owners.h are those of flow.bpf.c, and can be read here (5.11). */
const volatile __u8 nm_has_owners = 1;

/* How old the peer that is kept as an example becomes before another takes its place. */
enum { NM_PEER_AGE_NS = 1000000000 };

/* Namespaces are numbered from here on (PROC_DYNAMIC_FIRST, the initial ones just below): what is
 * less was never one. */
enum : __u32 { NM_FIRST_NAMESPACE = 0xe0000000 };

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 16384);
	__type(key, struct nm_drop_key);
	__type(value, struct nm_drop);
} nm_drops SEC(".maps");

/* Without process and port, when there is no room for more of those. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 2048);
	__type(key, struct nm_drop_key);
	__type(value, struct nm_drop);
} nm_other_drops SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, NM_DROP_LOSS_COUNT);
	__type(key, __u32);
	__type(value, __u64);
} nm_drops_lost SEC(".maps");

const enum nm_drop_side *nm_drop_side_anchor __attribute__((unused));
const enum nm_drop_loss *nm_drop_loss_anchor __attribute__((unused));

static __always_inline void nm_count_lost(__u32 kind)
{
	__u64 *lost = bpf_map_lookup_elem(&nm_drops_lost, &kind);

	if (lost)
		*lost += 1;
}

/* ---- the packet ---- */

struct nm_packet {
	__u8 from[16];
	__u8 to[16];
	__u16 from_port;
	__u16 to_port;
	__u32 bytes;
	__u32 segments;
	__u8 protocol;
	__u8 family;
};

static __always_inline void nm_read_ports(struct nm_packet *packet, const unsigned char *at)
{
	__be16 ports[2] = {};

	if (packet->protocol != NM_IPPROTO_TCP && packet->protocol != NM_IPPROTO_UDP)
		return;
	if (bpf_probe_read_kernel(ports, sizeof(ports), at))
		return;
	packet->from_port = bpf_ntohs(ports[0]);
	packet->to_port = bpf_ntohs(ports[1]);
}

/* Reads the headers, as far as they are in the linear part; what is not there stays 0. A packet can
 * be dropped anywhere: with its headers before its data or in it, or with none yet. */
static __always_inline void nm_read_packet(struct nm_packet *packet, struct sk_buff *skb)
{
	const unsigned char *head = skb->head;
	__u32 data = skb->data - head;
	__u32 network = skb->network_header;
	__u32 linear = skb->tail;
	struct nm_ipv4 ipv4;
	struct nm_ipv6 ipv6;
	__u32 headers;
	__u16 segments = 0;

	/* At the driver the offset is not set yet, and data is what the packet begins with. */
	if (!network)
		network = data;
	packet->bytes = skb->len;
	bpf_probe_read_kernel(&segments, sizeof(segments),
			      head + skb->end +
				  bpf_core_field_offset(struct skb_shared_info, gso_segs));
	packet->segments = segments > 1 ? segments : 1;

	if (network + sizeof(ipv4) > linear ||
	    bpf_probe_read_kernel(&ipv4, sizeof(ipv4), head + network))
		return;
	if (ipv4.version_and_length >> 4 == 4) {
		headers = (ipv4.version_and_length & 0xf) * 4;
		if (headers < sizeof(ipv4))
			return;
		packet->family = NM_AF_INET;
		packet->protocol = ipv4.protocol;
		nm_map_ipv4(packet->from, ipv4.source);
		nm_map_ipv4(packet->to, ipv4.destination);
		/* Only the first fragment has ports. */
		if (ipv4.fragment & bpf_htons(0x1fff))
			headers = 0;
	} else if (ipv4.version_and_length >> 4 == 6) {
		headers = sizeof(ipv6);
		if (network + sizeof(ipv6) > linear ||
		    bpf_probe_read_kernel(&ipv6, sizeof(ipv6), head + network))
			return;
		packet->family = NM_AF_INET6;
		packet->protocol = ipv6.next;
		__builtin_memcpy(packet->from, ipv6.source, 16);
		__builtin_memcpy(packet->to, ipv6.destination, 16);
	} else {
		return;
	}
	/* However far the data was moved since, or back to the link's header. */
	packet->bytes += data - network;
	if (headers && network + headers + 4 <= linear)
		nm_read_ports(packet, head + network + headers);
}

/* ---- where it was, and whose ---- */

/* What a socket tells of a packet. */
struct nm_end {
	__u32 netns;
	__u16 port;
	bool is_internet;
};

static __always_inline void nm_read_end(struct nm_end *end, struct sock *sk)
{
	if (!nm_is_internet(sk->__sk_common.skc_family))
		return;
	/* Others are smaller, and nobody's. */
	if (sk->__sk_common.skc_state == NM_TCP_TIME_WAIT ||
	    sk->__sk_common.skc_state == NM_TCP_NEW_SYN_RECV)
		return;
	end->is_internet = true;
	end->netns = sk->__sk_common.skc_net.net->ns.inum;
	end->port = sk->__sk_common.skc_num;
}

/* The interface and its namespace. While a packet waits in a socket's queue, this place in it is
 * used for something else: of a datagram its length, of a segment perhaps a pointer into a tree. */
static __always_inline void nm_read_device(struct sk_buff *skb, __u32 *interface, __u32 *netns)
{
	__u64 address = 0;
	struct net_device *device;
	__u32 inum;

	bpf_probe_read_kernel(&address, sizeof(address), &skb->dev);
	if ((__s64)address >= 0)
		return;
	device = (struct net_device *)address;
	inum = BPF_CORE_READ(device, nd_net.net, ns.inum);
	if (inum < NM_FIRST_NAMESPACE)
		return;
	*netns = inum;
	*interface = BPF_CORE_READ(device, ifindex);
}

/* Who owns a socket, if that was written down. */
static __always_inline const struct nm_socket *nm_find_owner(struct sock *sk)
{
	const struct nm_datagrams *datagrams;
	const struct nm_socket *socket;
	__u64 cookie;

	if (!nm_has_owners)
		return NULL;
	if (sk->sk_protocol == NM_IPPROTO_TCP) {
		cookie = sk->__sk_common.skc_cookie.counter;
		socket = bpf_map_lookup_elem(&nm_connections, &cookie);
	} else {
		datagrams = bpf_sk_storage_get(&nm_datagram_sockets, sk, NULL, 0);
		socket = datagrams ? &datagrams->socket : NULL;
	}
	return socket && socket->owner.pid ? socket : NULL;
}

static __always_inline const struct nm_socket *nm_set_owner(struct nm_drop_key *key,
							    struct sock *sk)
{
	const struct nm_socket *socket = nm_find_owner(sk);

	if (socket) {
		key->owner_pid = socket->owner.pid;
		key->owner_exec_id = socket->owner.exec_id;
		key->owner_start_ns = socket->owner.start_ns;
	}
	return socket;
}

/* ---- counting ---- */

static __always_inline void nm_set_peer(struct nm_drop *drop, const struct nm_packet *packet,
					bool received, __u64 now)
{
	drop->peer_ns = now;
	__builtin_memcpy(drop->peer, received ? packet->from : packet->to, 16);
	drop->peer_port = received ? packet->from_port : packet->to_port;
}

static __always_inline int nm_add(struct nm_drop *drop, const struct nm_packet *packet,
				  bool received, __u32 interface, __u64 now)
{
	__sync_fetch_and_add(&drop->packets, 1);
	__sync_fetch_and_add(&drop->wire_packets, packet->segments);
	__sync_fetch_and_add(&drop->bytes, packet->bytes);
	drop->last_ns = now;
	if (drop->interface != interface)
		drop->interface = interface;
	if (packet->family && now - drop->peer_ns >= NM_PEER_AGE_NS)
		nm_set_peer(drop, packet, received, now);
	return 0;
}

static __always_inline struct nm_drop *nm_begin(void *map, const struct nm_drop_key *key,
						const struct nm_packet *packet,
						const struct nm_socket *socket, __u64 cookie,
						bool received, __u64 now)
{
	struct nm_drop fresh = {};

	fresh.first_ns = now;
	fresh.cookie = cookie;
	nm_set_peer(&fresh, packet, received, now);
	if (socket) {
		fresh.owner = socket->owner;
		fresh.attribution = socket->attribution;
	}
	/* Another CPU may have been first. */
	bpf_map_update_elem(map, key, &fresh, BPF_NOEXIST);
	return bpf_map_lookup_elem(map, key);
}

SEC("tp_btf/kfree_skb")
int nm_count_drop(__u64 *ctx)
{
	struct sk_buff *skb = (struct sk_buff *)ctx[0];
	const struct nm_socket *socket = NULL;
	struct sock *receiver = NULL, *sk;
	struct nm_drop_key key = {};
	struct nm_packet packet = {};
	struct nm_end end = {};
	struct nm_drop *drop;
	__u32 interface, device = 0, device_netns = 0;
	__u64 cookie = 0, now;
	bool received;

	if (nm_arguments > 2)
		key.reason = (__u32)ctx[2];
	if (nm_consumed && key.reason == nm_consumed)
		return 0;
	if (nm_arguments > 3)
		receiver = (struct sock *)ctx[3];
	sk = skb->sk;
	if (receiver)
		nm_read_end(&end, receiver);
	else if (sk)
		nm_read_end(&end, sk);
	/* Messages between processes, and to the kernel, are no packets. */
	if (!skb->protocol && !end.is_internet)
		return 0;

	nm_read_packet(&packet, skb);
	nm_read_device(skb, &device, &device_netns);
	interface = skb->skb_iif;
	/* What a veth takes over to another namespace came in there, though no interface says so
	 * yet. */
	received =
	    receiver || interface || (end.is_internet && device_netns && device_netns != end.netns);
	if (!interface)
		interface = device;
	key.side = received ? NM_SIDE_RECEIVED : NM_SIDE_SENT;
	key.protocol = packet.protocol;
	key.family = packet.family;
	key.local_port = received ? packet.to_port : packet.from_port;
	key.netns = device_netns;

	if (receiver) {
		key.netns = end.netns;
		if (end.is_internet)
			socket = nm_set_owner(&key, receiver);
	} else if (sk && end.is_internet && end.port == key.local_port &&
		   (!device_netns || device_netns == end.netns)) {
		/* A packet may still have its sender's socket when it arrives. */
		key.netns = end.netns;
		socket = nm_set_owner(&key, sk);
	} else {
		end.is_internet = false;
	}

	now = bpf_ktime_get_boot_ns();
	drop = bpf_map_lookup_elem(&nm_drops, &key);
	if (drop)
		return nm_add(drop, &packet, received, interface, now);

	/* The number by which user space may find out who owns the socket: one is made for a
	 * receiver alone, since the verifier trusts no socket that is found in a packet. */
	if (end.is_internet && !socket) {
		if (receiver)
			cookie = bpf_get_socket_cookie(receiver);
		else if (sk)
			cookie = sk->__sk_common.skc_cookie.counter;
	}
	drop = nm_begin(&nm_drops, &key, &packet, socket, cookie, received, now);
	if (drop)
		return nm_add(drop, &packet, received, interface, now);

	key.owner_pid = 0;
	key.owner_exec_id = 0;
	key.owner_start_ns = 0;
	key.local_port = 0;
	drop = bpf_map_lookup_elem(&nm_other_drops, &key);
	if (!drop)
		drop = nm_begin(&nm_other_drops, &key, &packet, NULL, 0, received, now);
	if (!drop) {
		nm_count_lost(NM_LOST_DROP);
		return 0;
	}
	nm_count_lost(NM_LOST_DETAIL);
	return nm_add(drop, &packet, received, interface, now);
}
