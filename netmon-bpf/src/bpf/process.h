/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * Who a process is. Only for programs that run in the context of the process that they tell of, or
 * are given its task: in softirq the current task is whoever was interrupted.
 */
#ifndef NETMON_PROCESS_H
#define NETMON_PROCESS_H

#include "flow.h"
#include "kernel.h"
#include <bpf/bpf_core_read.h>

/* Linux 5.10 gives the current task only as a number, which must be probed. CO-RE answers at load
 * time, so that no program has both ways. */
#define NM_HAS_TASK	     bpf_core_enum_value_exists(enum bpf_func_id, BPF_FUNC_get_current_task_btf)
#define NM_READ(task, field) (NM_HAS_TASK ? (task)->field : BPF_CORE_READ(task, field))

static __always_inline struct task_struct *nm_current(void)
{
	if (NM_HAS_TASK)
		return (struct task_struct *)bpf_get_current_task_btf();
	return (struct task_struct *)bpf_get_current_task();
}

/* The same process, and no exec since. */
static __always_inline bool nm_is_process(const struct nm_process *process,
					  struct task_struct *task)
{
	struct task_struct *leader = NM_READ(task, group_leader);

	return process->pid == (__u32)NM_READ(task, tgid) &&
	       process->exec_id == (__u32)NM_READ(task, self_exec_id) &&
	       process->start_ns == NM_READ(leader, start_boottime);
}

static __always_inline __u64 nm_read_cgroup_id(struct task_struct *task)
{
	if (NM_HAS_TASK)
		return task->cgroups->dfl_cgrp->kn->id;
	return BPF_CORE_READ(task, cgroups, dfl_cgrp, kn, id);
}

static __always_inline __u32 nm_read_user(struct task_struct *task)
{
	if (NM_HAS_TASK)
		return task->cred->euid.val;
	return BPF_CORE_READ(task, cred, euid.val);
}

static __always_inline void nm_read_process(struct nm_process *process, struct task_struct *task)
{
	struct task_struct *leader = NM_READ(task, group_leader);

	process->start_ns = NM_READ(leader, start_boottime);
	process->cgroup_id = nm_read_cgroup_id(task);
	process->pid = NM_READ(task, tgid);
	process->tid = NM_READ(task, pid);
	process->uid = nm_read_user(task);
	process->exec_id = NM_READ(task, self_exec_id);
	bpf_probe_read_kernel(process->comm, sizeof(process->comm), &leader->comm);
	bpf_probe_read_kernel(process->thread_comm, sizeof(process->thread_comm), &task->comm);
}

#endif
