// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * flow.bpf.c for Linux 5.10 to 5.12, which refuse an object that has callbacks of bpf_loop or
 * atomics that return something, even where no program uses them. Without these hooks there:
 * sock_send_length, sock_recv_length, inet_sk_error_report and the iterators.
 */
#define NM_OLD
#include "flow.bpf.c"
