// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * Counts the packets of one interface in one direction, per traffic class.
 *
 * One loaded object serves one attachment, so that the array has only an element for each class.
 * Counters are per CPU, so that no cache line is shared and no atomic is needed; both hooks run
 * with bottom halves disabled, so a program is never interrupted by itself on its CPU.
 *
 * CAP_BPF and CAP_NET_ADMIN must suffice. Without CAP_PERFMON the verifier takes no pointer into a
 * packet, nor into a map's value, to which anything but a constant was added (sanitize_ptr_alu() in
 * kernel/bpf/verifier.c). So a class is an element of its own, and what is not at a constant offset
 * is read by helpers where the kernel has them.
 */
#include "netmon.h"
#include "iface.h"

char LICENSE[] SEC("license") = "Dual MIT/GPL";

/* Set before loading. False on links without an Ethernet header (tun, WireGuard, PPP), where the
 * first byte is not a MAC address. A byte and not a bool, for the generated Rust. Constant for the
 * verifier, which drops the branch not taken, and with it helpers that an older kernel may lack. */
const volatile __u8 nm_is_ethernet = 1;

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, NM_CLASS_COUNT);
	__type(key, __u32); /* enum nm_traffic_class */
	__type(value, struct nm_class_counters);
} nm_counters SEC(".maps");

/* include/uapi/linux/if_ether.h and in.h */
enum {
	NM_ETH_HEADER_LENGTH = 14,
	NM_ETH_TYPE_OFFSET = 12,
	NM_ETH_P_IPV4 = 0x0800,
	NM_ETH_P_ARP = 0x0806,
	NM_ETH_P_8021Q = 0x8100,
	NM_ETH_P_IPV6 = 0x86DD,
	NM_ETH_P_8021AD = 0x88A8,
	NM_ETH_P_QINQ1 = 0x9100,
	NM_VLAN_TAG_LENGTH = 4,
	NM_IPV4_PROTOCOL_OFFSET = 9,
	NM_IPV4_MIN_HEADER_LENGTH = 20,
	NM_IPV6_NEXT_HEADER_OFFSET = 6,
	NM_IPV6_HEADER_LENGTH = 40,
	NM_IPPROTO_HOPOPTS = 0,
	NM_IPPROTO_ICMP = 1,
	NM_IPPROTO_TCP = 6,
	NM_IPPROTO_UDP = 17,
	NM_IPPROTO_ROUTING = 43,
	NM_IPPROTO_FRAGMENT = 44,
	NM_IPPROTO_AH = 51,
	NM_IPPROTO_ICMPV6 = 58,
	NM_IPPROTO_DSTOPTS = 60,
	NM_TCP_DATA_OFFSET = 12,
	NM_UDP_HEADER_LENGTH = 8,
};

/* How far a packet is followed: tags of stacked VLANs, and IPv6 extension headers. RFC 8200 knows
 * six that may stand before the transport; senders repeat none but destination options. */
enum {
	NM_MAX_VLAN_TAGS = 2,
	NM_MAX_EXTENSION_HEADERS = 7,
	NM_MAX_HEADER_OFFSET = 2047, /* what the verifier is told about an offset, 2^n - 1 */
};

/* How a packet is read beyond what is at constant offsets: a socket buffer or an XDP frame with
 * fragments by a helper, which also reaches bytes outside the linear part; a plain XDP frame
 * directly. */
enum nm_packet_kind {
	NM_PACKET_SKB,
	NM_PACKET_XDP,
	NM_PACKET_XDP_FRAGS,
};

/* The kind is a constant in each program, so that the compiler drops what is for others. It is not
 * told by a null pointer: without CAP_PERFMON the verifier lets no context be compared with one. */
struct nm_packet {
	enum nm_packet_kind kind;
	struct __sk_buff *skb;
	struct xdp_md *xdp;
	void *data; /* the linear part */
	void *data_end;
};

/* A place for what is read or looked up, alone in its stack slot of eight bytes: without
 * CAP_PERFMON kernels before 6.8 refuse to write beside a register's spilled value ("attempt to
 * corrupt spilled pointer on stack"). */
struct nm_bytes {
	__u8 at[8];
} __attribute__((aligned(8)));

struct nm_key {
	__u32 class;
} __attribute__((aligned(8)));

struct nm_classified {
	__u32 class;
	__u32 protocol;		/* transport, valid for the IP classes */
	__u32 transport_offset; /* where the transport header starts */
};

static __always_inline bool nm_read(const struct nm_packet *packet, __u32 offset,
				    struct nm_bytes *to, const __u32 length)
{
	if (packet->kind == NM_PACKET_SKB) {
		if (nm_is_ethernet)
			return bpf_skb_load_bytes(packet->skb, offset, to->at, length) == 0;
		return bpf_skb_load_bytes_relative(packet->skb, offset, to->at, length,
						   BPF_HDR_START_NET) == 0;
	}
	if (packet->kind == NM_PACKET_XDP_FRAGS)
		return bpf_xdp_load_bytes(packet->xdp, offset, to->at, length) == 0;

	void *from = packet->data + (offset & NM_MAX_HEADER_OFFSET);

	if (from + length > packet->data_end)
		return false;
	__builtin_memcpy(to->at, from, length);
	return true;
}

static __always_inline bool nm_read_byte(const struct nm_packet *packet, __u32 offset, __u8 *to)
{
	struct nm_bytes bytes;

	if (!nm_read(packet, offset, &bytes, 1))
		return false;
	*to = bytes.at[0];
	return true;
}

static __always_inline bool nm_read_ether_type(const struct nm_packet *packet, __u32 offset,
					       __u32 *to)
{
	struct nm_bytes bytes;

	if (!nm_read(packet, offset, &bytes, 2))
		return false;
	*to = bytes.at[0] << 8 | bytes.at[1];
	return true;
}

static __always_inline bool nm_is_vlan(__u32 ether_type)
{
	return ether_type == NM_ETH_P_8021Q || ether_type == NM_ETH_P_8021AD ||
	       ether_type == NM_ETH_P_QINQ1;
}

static __always_inline __u32 nm_transport_class(__u32 protocol, __u32 icmp, __u32 tcp_class)
{
	/* The order of the enum: TCP, UDP, ICMP, other. */
	if (protocol == NM_IPPROTO_TCP)
		return tcp_class;
	if (protocol == NM_IPPROTO_UDP)
		return tcp_class + 1;
	if (protocol == icmp)
		return tcp_class + 2;
	return tcp_class + 3;
}

static __always_inline void nm_classify_ipv4(const struct nm_packet *packet, __u32 offset,
					     struct nm_classified *out)
{
	__u8 protocol, version_and_length;

	if (!nm_read_byte(packet, offset + NM_IPV4_PROTOCOL_OFFSET, &protocol) ||
	    !nm_read_byte(packet, offset, &version_and_length)) {
		out->class = NM_CLASS_IPV4_OTHER;
		return;
	}
	/* Later fragments carry the protocol too, so they are counted with their datagram. */
	out->protocol = protocol;
	out->transport_offset = offset + (version_and_length & 0xf) * 4;
	out->class = nm_transport_class(protocol, NM_IPPROTO_ICMP, NM_CLASS_IPV4_TCP);
}

static __always_inline void nm_classify_ipv6(const struct nm_packet *packet, __u32 offset,
					     struct nm_classified *out)
{
	__u8 next_header;
	int i;

	out->class = NM_CLASS_IPV6_OTHER;
	if (!nm_read_byte(packet, offset + NM_IPV6_NEXT_HEADER_OFFSET, &next_header))
		return;
	offset += NM_IPV6_HEADER_LENGTH;

#pragma unroll
	for (i = 0; i < NM_MAX_EXTENSION_HEADERS; i++) {
		struct nm_bytes extension; /* next header, length */

		if (next_header != NM_IPPROTO_HOPOPTS && next_header != NM_IPPROTO_ROUTING &&
		    next_header != NM_IPPROTO_DSTOPTS && next_header != NM_IPPROTO_FRAGMENT &&
		    next_header != NM_IPPROTO_AH)
			break;
		if (!nm_read(packet, offset, &extension, 2))
			return;
		if (next_header == NM_IPPROTO_FRAGMENT)
			offset += 8;
		else if (next_header == NM_IPPROTO_AH)
			offset += (extension.at[1] + 2) * 4; /* RFC 4302: in words, minus two */
		else
			offset += (extension.at[1] + 1) * 8;
		next_header = extension.at[0];
	}
	out->protocol = next_header;
	out->transport_offset = offset;
	out->class = nm_transport_class(next_header, NM_IPPROTO_ICMPV6, NM_CLASS_IPV6_TCP);
}

/* Nearly every packet: no tag, and the transport right behind the network header. Reading those
 * without a helper takes the program from 57 to 5 ns (6.18, BPF_PROG_TEST_RUN, an empty program
 * subtracted). False where it is not so simple. */
static __always_inline bool nm_classify_simple(const struct nm_packet *packet,
					       struct nm_classified *out)
{
	const __u8 *frame = packet->data, *network = frame + NM_ETH_HEADER_LENGTH;
	__be16 ether_type;

	if (packet->kind == NM_PACKET_SKB && !nm_is_ethernet)
		return false;
	if ((void *)(network + NM_IPV4_MIN_HEADER_LENGTH) > packet->data_end)
		return false;
	__builtin_memcpy(&ether_type, frame + NM_ETH_TYPE_OFFSET, sizeof(ether_type));

	if (ether_type == bpf_htons(NM_ETH_P_IPV4)) {
		out->protocol = network[NM_IPV4_PROTOCOL_OFFSET];
		out->transport_offset = NM_ETH_HEADER_LENGTH + (network[0] & 0xf) * 4;
		out->class = nm_transport_class(out->protocol, NM_IPPROTO_ICMP, NM_CLASS_IPV4_TCP);
		return true;
	}
	if (ether_type != bpf_htons(NM_ETH_P_IPV6) ||
	    (void *)(network + NM_IPV6_HEADER_LENGTH) > packet->data_end)
		return false;
	out->protocol = network[NM_IPV6_NEXT_HEADER_OFFSET];
	out->transport_offset = NM_ETH_HEADER_LENGTH + NM_IPV6_HEADER_LENGTH;
	out->class = nm_transport_class(out->protocol, NM_IPPROTO_ICMPV6, NM_CLASS_IPV6_TCP);
	return out->class != NM_CLASS_IPV6_OTHER; /* which may be an extension header */
}

static __always_inline void nm_classify(const struct nm_packet *packet, struct nm_classified *out)
{
	__u32 offset = 0, ether_type;
	int i;

	if (packet->kind == NM_PACKET_SKB && !nm_is_ethernet) {
		ether_type = bpf_ntohs(packet->skb->protocol);
	} else {
		/* Not skb->protocol: a tool that injects raw frames may leave it unset. A tag that
		 * the device or the kernel took off is in the metadata and not in the frame; one
		 * that is still there is stepped over below. */
		if (!nm_read_ether_type(packet, NM_ETH_TYPE_OFFSET, &ether_type))
			return;
		offset = NM_ETH_HEADER_LENGTH;
	}

#pragma unroll
	for (i = 0; i < NM_MAX_VLAN_TAGS; i++) {
		if (!nm_is_vlan(ether_type))
			break;
		if (!nm_read_ether_type(packet, offset + 2, &ether_type))
			return;
		offset += NM_VLAN_TAG_LENGTH;
	}

	if (ether_type == NM_ETH_P_IPV4)
		nm_classify_ipv4(packet, offset, out);
	else if (ether_type == NM_ETH_P_IPV6)
		nm_classify_ipv6(packet, offset, out);
	else if (ether_type == NM_ETH_P_ARP)
		out->class = NM_CLASS_ARP;
}

/* The headers that every further segment of a GSO packet repeats. Those of the outermost transport
 * only: inside a tunnel that is less than the wire carries. */
static __always_inline __u32 nm_repeated_headers(const struct nm_packet *packet,
						 const struct nm_classified *classified)
{
	__u32 length = classified->transport_offset;
	__u8 data_offset;

	if (classified->protocol == NM_IPPROTO_UDP)
		return length + NM_UDP_HEADER_LENGTH;
	if (classified->protocol == NM_IPPROTO_TCP &&
	    nm_read_byte(packet, length + NM_TCP_DATA_OFFSET, &data_offset))
		return length + (data_offset >> 4) * 4;
	return length;
}

static __always_inline void nm_count(const struct nm_packet *packet, __u32 length, __u32 segments)
{
	struct nm_classified classified;
	struct nm_class_counters *counter;
	__u64 wire_bytes = length;
	struct nm_key key;

	if (!nm_classify_simple(packet, &classified)) {
		classified = (struct nm_classified){ .class = NM_CLASS_OTHER };
		nm_classify(packet, &classified);
	}
	if (segments > 1)
		wire_bytes += (__u64)(segments - 1) * nm_repeated_headers(packet, &classified);
	else
		segments = 1;

	key.class = classified.class;
	counter = bpf_map_lookup_elem(&nm_counters, &key.class);
	if (!counter)
		return; /* never: every class has its element, but the verifier asks */
	counter->packets += 1;
	counter->wire_packets += segments;
	counter->bytes += length;
	counter->wire_bytes += wire_bytes;
}

SEC("tc")
int nm_count_skb(struct __sk_buff *skb)
{
	struct nm_packet packet = {
		.kind = NM_PACKET_SKB,
		.skb = skb,
		.data = (void *)(long)skb->data,
		.data_end = (void *)(long)skb->data_end,
	};

	nm_count(&packet, skb->len, skb->gso_segs);
	return NM_TC_NEXT;
}

/* For kernels before 5.18, which have nothing but pointers into the frame, and then for those who
 * also have CAP_PERFMON. */
SEC("xdp")
int nm_count_xdp(struct xdp_md *context)
{
	struct nm_packet packet = {
		.kind = NM_PACKET_XDP,
		.data = (void *)(long)context->data,
		.data_end = (void *)(long)context->data_end,
	};

	nm_count(&packet, context->data_end - context->data, 1);
	return XDP_PASS;
}

/* Before 5.18 there is neither this program type nor its helpers; without it a driver refuses to
 * attach to an interface with jumbo frames. */
SEC("xdp.frags")
int nm_count_xdp_frags(struct xdp_md *context)
{
	struct nm_packet packet = {
		.kind = NM_PACKET_XDP_FRAGS,
		.xdp = context,
		.data = (void *)(long)context->data,
		.data_end = (void *)(long)context->data_end,
	};

	nm_count(&packet, bpf_xdp_get_buff_len(context), 1);
	return XDP_PASS;
}
