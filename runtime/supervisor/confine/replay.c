//go:build cgo && seccomp

// The linker puts these functions between the Go binding and libseccomp (ld(1), --wrap).
#define _GNU_SOURCE // memfd_create
#include "replay.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <seccomp.h>

scmp_filter_ctx __real_seccomp_init(uint32_t action);
void __real_seccomp_release(scmp_filter_ctx ctx);
int __real_seccomp_reset(scmp_filter_ctx ctx, uint32_t action);
int __real_seccomp_merge(scmp_filter_ctx to, scmp_filter_ctx from);
int __real_seccomp_load(scmp_filter_ctx ctx);
int __real_seccomp_arch_add(scmp_filter_ctx ctx, uint32_t arch);
int __real_seccomp_arch_remove(scmp_filter_ctx ctx, uint32_t arch);
int __real_seccomp_attr_set(scmp_filter_ctx ctx, enum scmp_filter_attr attr, uint32_t value);
int __real_seccomp_syscall_priority(scmp_filter_ctx ctx, int nr, uint8_t priority);
int __real_seccomp_rule_add_array(scmp_filter_ctx ctx, uint32_t action, int nr, unsigned int n, const struct scmp_arg_cmp *args);
int __real_seccomp_rule_add_exact_array(scmp_filter_ctx ctx, uint32_t action, int nr, unsigned int n, const struct scmp_arg_cmp *args);
int __real_seccomp_export_bpf(const scmp_filter_ctx ctx, int fd);
int __real_seccomp_export_pfc(const scmp_filter_ctx ctx, int fd);

static enum { OFF, RECORD, REPLAY } mode;

enum op { INIT = 1, ARCH_ADD, ARCH_REMOVE, ATTR, PRIORITY, RULE, RULE_EXACT };

// call is one of them as it is noted; n times struct scmp_arg_cmp follow.
struct call {
	uint32_t op, a;
	int32_t b;
	uint32_t n;
	int64_t rc; // what libseccomp answered, 0 for a rule
};

// The filter that is being made. There is one at a time; calls for another one go through.
static struct {
	scmp_filter_ctx ctx;
	uint8_t *calls;
	size_t len, cap;
	size_t pending; // where the calls begin that libseccomp has not seen; len when there are none
	bool failed;
} filter;

static struct {
	const uint8_t *calls, *program;
	size_t calls_len, program_len;
} armed;

static struct {
	uint8_t *program;
	size_t len;
} recorded;

static int note(int rc, enum op op, uint32_t a, int32_t b, uint32_t n, const struct scmp_arg_cmp *args)
{
	struct call c = { .op = op, .a = a, .b = b, .n = n, .rc = rc };
	size_t size = n * sizeof(*args);

	if (filter.len + sizeof(c) + size > filter.cap) {
		size_t cap = 2 * filter.cap + sizeof(c) + size + 16384;
		uint8_t *grown = realloc(filter.calls, cap);
		if (grown == NULL) {
			filter.failed = true;
			return -ENOMEM;
		}
		filter.calls = grown;
		filter.cap = cap;
	}
	memcpy(filter.calls + filter.len, &c, sizeof(c));
	filter.len += sizeof(c);
	if (size > 0)
		memcpy(filter.calls + filter.len, args, size);
	filter.len += size;
	return 0;
}

static int add_rule(enum op op, uint32_t action, int nr, unsigned int n, const struct scmp_arg_cmp *args)
{
	if (op == RULE_EXACT)
		return __real_seccomp_rule_add_exact_array(filter.ctx, action, nr, n, args);
	return __real_seccomp_rule_add_array(filter.ctx, action, nr, n, args);
}

// settle gives libseccomp the calls that were held back.
static int settle(void)
{
	while (filter.pending < filter.len) {
		struct call c;
		memcpy(&c, filter.calls + filter.pending, sizeof(c));
		const struct scmp_arg_cmp *args = (const void *)(filter.calls + filter.pending + sizeof(c));
		int rc = add_rule(c.op, c.a, c.b, c.n, args);
		if (rc != 0)
			return rc;
		filter.pending += sizeof(c) + c.n * sizeof(*args);
	}
	return 0;
}

// leave gives up on a filter that is made in a way nobody foresaw: libseccomp does everything from here on.
static int leave(scmp_filter_ctx ctx)
{
	if (mode == OFF || ctx == NULL || ctx != filter.ctx)
		return 0;
	filter.failed = true;
	int rc = settle();
	if (rc == 0)
		filter.ctx = NULL;
	return rc;
}

// done notes a call that libseccomp has seen already.
static int done(scmp_filter_ctx ctx, int rc, enum op op, uint32_t a, int32_t b)
{
	if (mode == OFF || ctx == NULL || ctx != filter.ctx)
		return rc;
	if (note(rc, op, a, b, 0, NULL) != 0)
		filter.failed = true;
	filter.pending = filter.len;
	return rc;
}

// before is what comes before a call that is not held back: those that were go first, to keep the order.
static int before(scmp_filter_ctx ctx)
{
	if (mode == REPLAY && ctx != NULL && ctx == filter.ctx && filter.pending < filter.len)
		return leave(ctx);
	return 0;
}

scmp_filter_ctx __wrap_seccomp_init(uint32_t action)
{
	scmp_filter_ctx ctx = __real_seccomp_init(action);
	if (mode == OFF || ctx == NULL)
		return ctx;
	if (filter.ctx != NULL) { // a second one beside the first: not ours
		filter.failed = true;
		return ctx;
	}
	filter.ctx = ctx;
	filter.len = filter.pending = 0;
	filter.failed = false;
	done(ctx, 0, INIT, action, 0);
	return ctx;
}

void __wrap_seccomp_release(scmp_filter_ctx ctx)
{
	if (ctx == filter.ctx)
		filter.ctx = NULL;
	__real_seccomp_release(ctx);
}

int __wrap_seccomp_arch_add(scmp_filter_ctx ctx, uint32_t arch)
{
	int rc = before(ctx);
	return rc != 0 ? rc : done(ctx, __real_seccomp_arch_add(ctx, arch), ARCH_ADD, arch, 0);
}

int __wrap_seccomp_arch_remove(scmp_filter_ctx ctx, uint32_t arch)
{
	int rc = before(ctx);
	return rc != 0 ? rc : done(ctx, __real_seccomp_arch_remove(ctx, arch), ARCH_REMOVE, arch, 0);
}

int __wrap_seccomp_attr_set(scmp_filter_ctx ctx, enum scmp_filter_attr attr, uint32_t value)
{
	int rc = before(ctx);
	return rc != 0 ? rc : done(ctx, __real_seccomp_attr_set(ctx, attr, value), ATTR, attr, (int32_t)value);
}

int __wrap_seccomp_syscall_priority(scmp_filter_ctx ctx, int nr, uint8_t priority)
{
	int rc = before(ctx);
	return rc != 0 ? rc : done(ctx, __real_seccomp_syscall_priority(ctx, nr, priority), PRIORITY, priority, nr);
}

int __wrap_seccomp_reset(scmp_filter_ctx ctx, uint32_t action)
{
	int rc = leave(ctx);
	return rc != 0 ? rc : __real_seccomp_reset(ctx, action);
}

int __wrap_seccomp_merge(scmp_filter_ctx to, scmp_filter_ctx from)
{
	int rc = leave(to);
	if (rc == 0)
		rc = leave(from);
	return rc != 0 ? rc : __real_seccomp_merge(to, from);
}

int __wrap_seccomp_load(scmp_filter_ctx ctx)
{
	int rc = leave(ctx);
	return rc != 0 ? rc : __real_seccomp_load(ctx);
}

int __wrap_seccomp_export_pfc(const scmp_filter_ctx ctx, int fd)
{
	int rc = leave(ctx);
	return rc != 0 ? rc : __real_seccomp_export_pfc(ctx, fd);
}

static int rule(enum op op, scmp_filter_ctx ctx, uint32_t action, int nr, unsigned int n, const struct scmp_arg_cmp *args)
{
	if (mode == OFF || ctx == NULL || ctx != filter.ctx) {
		if (op == RULE_EXACT)
			return __real_seccomp_rule_add_exact_array(ctx, action, nr, n, args);
		return __real_seccomp_rule_add_array(ctx, action, nr, n, args);
	}
	int rc = note(0, op, action, nr, n, args);
	if (rc != 0 || mode == REPLAY)
		return rc;
	filter.pending = filter.len;
	rc = add_rule(op, action, nr, n, args);
	if (rc != 0)
		filter.failed = true;
	return rc;
}

int __wrap_seccomp_rule_add_array(scmp_filter_ctx ctx, uint32_t action, int nr, unsigned int n, const struct scmp_arg_cmp *args)
{
	return rule(RULE, ctx, action, nr, n, args);
}

int __wrap_seccomp_rule_add_exact_array(scmp_filter_ctx ctx, uint32_t action, int nr, unsigned int n, const struct scmp_arg_cmp *args)
{
	return rule(RULE_EXACT, ctx, action, nr, n, args);
}

static int write_all(int fd, const uint8_t *data, size_t len)
{
	while (len > 0) {
		ssize_t n = write(fd, data, len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		data += n;
		len -= n;
	}
	return 0;
}

// record_export keeps the exported filter, and fails so that the caller goes no further.
static int record_export(void)
{
	int fd = memfd_create("seccomp-filter", MFD_CLOEXEC);
	if (fd < 0)
		return -errno;
	int rc = __real_seccomp_export_bpf(filter.ctx, fd);
	off_t len = lseek(fd, 0, SEEK_END);
	if (rc == 0 && len > 0) {
		recorded.program = malloc(len);
		if (recorded.program != NULL && pread(fd, recorded.program, len, 0) == len)
			recorded.len = len;
	}
	close(fd);
	return rc != 0 ? rc : -ECANCELED;
}

int __wrap_seccomp_export_bpf(const scmp_filter_ctx ctx, int fd)
{
	if (mode == OFF || ctx == NULL || ctx != filter.ctx)
		return __real_seccomp_export_bpf(ctx, fd);
	if (mode == RECORD)
		return record_export();
	if (!filter.failed && filter.len == armed.calls_len && memcmp(filter.calls, armed.calls, filter.len) == 0) {
		return write_all(fd, armed.program, armed.program_len);
	}
	int rc = settle();
	return rc != 0 ? rc : __real_seccomp_export_bpf(ctx, fd);
}

void replay_record(void)
{
	mode = RECORD;
}

int replay_recorded(const uint8_t **calls, size_t *calls_len, const uint8_t **program, size_t *program_len)
{
	if (filter.failed || recorded.len == 0)
		return -1;
	*calls = filter.calls;
	*calls_len = filter.len;
	*program = recorded.program;
	*program_len = recorded.len;
	return 0;
}

void replay_arm(const uint8_t *calls, size_t calls_len, const uint8_t *program, size_t program_len)
{
	armed.calls = calls;
	armed.calls_len = calls_len;
	armed.program = program;
	armed.program_len = program_len;
	mode = REPLAY;
}
