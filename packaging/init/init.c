/*
 * The only compiled code of rdock: a static program without a C library, a few kilobytes, in two parts.
 *
 *   init -- COMMAND [ARG...]
 *       Process 1 of a container started with --init: runs COMMAND, passes signals on to it, reaps
 *       every orphan, and ends as COMMAND ended (128+N if by signal N).
 *
 *   exec FD PATH COMMAND [ARG...]
 *       The last step into a container: closes FD on execve, executes PATH with COMMAND as argv[0], and
 *       writes errno, four bytes, to FD if that fails. rdock runs this from a sealed memory file, so
 *       that /proc/self/exe, which a hostile image can name as interpreter or loader of its program,
 *       is never rdock's own executable (CVE-2019-5736).
 *
 * Which part it is, argv[0] tells. Signals are not handled but awaited with rt_sigtimedwait(2), hence
 * no handler has to return.
 */

#define NULL ((void *)0)
typedef unsigned long sigset;

enum {
	EACCES = 13, ENOENT = 2, ENOTDIR = 20,
	SIGCHLD = 17, SIGTTIN = 21, SIGTTOU = 22,
	SIG_BLOCK = 0, SIG_SETMASK = 2,
	WNOHANG = 1,
	F_SETFD = 2, FD_CLOEXEC = 1,
	TIOCSPGRP = 0x5410,
};

#if defined(__x86_64__)
enum {
	NR_write = 1, NR_ioctl = 16, NR_execve = 59, NR_exit_group = 231, NR_wait4 = 61, NR_kill = 62,
	NR_fcntl = 72, NR_rt_sigprocmask = 14, NR_rt_sigtimedwait = 128, NR_setpgid = 109, NR_clone = 56,
	NR_getpid = 39,
};
static long call(long n, long a, long b, long c, long d, long e)
{
	long result;
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	__asm__ volatile("syscall" : "=a"(result) : "a"(n), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8)
			 : "rcx", "r11", "memory");
	return result;
}
__asm__(".globl _start\n_start:\n\txor %ebp, %ebp\n\tmov %rsp, %rdi\n\tand $-16, %rsp\n\tcall begin\n");
#elif defined(__aarch64__)
enum {
	NR_write = 64, NR_ioctl = 29, NR_execve = 221, NR_exit_group = 94, NR_wait4 = 260, NR_kill = 129,
	NR_fcntl = 25, NR_rt_sigprocmask = 135, NR_rt_sigtimedwait = 137, NR_setpgid = 154, NR_clone = 220,
	NR_getpid = 172,
};
static long call(long n, long a, long b, long c, long d, long e)
{
	register long x8 __asm__("x8") = n;
	register long x0 __asm__("x0") = a;
	register long x1 __asm__("x1") = b;
	register long x2 __asm__("x2") = c;
	register long x3 __asm__("x3") = d;
	register long x4 __asm__("x4") = e;
	__asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4) : "memory");
	return x0;
}
__asm__(".globl _start\n_start:\n\tmov x29, #0\n\tmov x0, sp\n\tbl begin\n");
#else
#error "no system call numbers for this machine"
#endif

static unsigned long length(const char *text)
{
	unsigned long n = 0;
	while (text[n])
		n++;
	return n;
}

static void say(const char *text)
{
	call(NR_write, 2, (long)text, (long)length(text), 0, 0);
}

static void leave(int status)
{
	for (;;)
		call(NR_exit_group, status, 0, 0, 0, 0);
}

static const char *last_part(const char *path)
{
	const char *part = path;
	for (; *path; path++)
		if (*path == '/')
			part = path + 1;
	return part;
}

static int same(const char *a, const char *b)
{
	while (*a && *a == *b)
		a++, b++;
	return *a == *b;
}

/* execvp(3): the first of PATH's directories that has it; the errno if none does. */
static long execute(char **argv, char **envp)
{
	static char path[4096];
	const char *search = "";
	unsigned long name = length(argv[0]);
	long result = -ENOENT, denied = 0;

	if (last_part(argv[0]) != argv[0])
		return call(NR_execve, (long)argv[0], (long)argv, (long)envp, 0, 0);
	for (char **e = envp; *e; e++)
		if ((*e)[0] == 'P' && (*e)[1] == 'A' && (*e)[2] == 'T' && (*e)[3] == 'H' && (*e)[4] == '=')
			search = *e + 5;
	while (*search) {
		unsigned long n = 0;
		while (search[n] && search[n] != ':')
			n++;
		if (n + name + 2 <= sizeof(path)) {
			unsigned long i;
			for (i = 0; i < n; i++)
				path[i] = search[i];
			path[n] = '/';
			for (i = 0; i <= name; i++)
				path[n + 1 + i] = argv[0][i];
			result = call(NR_execve, (long)path, (long)argv, (long)envp, 0, 0);
			if (result == -EACCES)
				denied = result;
			else if (result != -ENOENT && result != -ENOTDIR)
				return result;
		}
		search += n + (search[n] == ':');
	}
	return denied ? denied : result;
}

static int decode(int status)
{
	return status & 0x7f ? 128 + (status & 0x7f) : status >> 8 & 0xff;
}

static void init(char **argv, char **envp)
{
	sigset all = ~0UL, none = 0;

	call(NR_rt_sigprocmask, SIG_BLOCK, (long)&all, 0, sizeof(all), 0);
	long child = call(NR_clone, SIGCHLD, 0, 0, 0, 0);
	if (child == 0) {
		/* A group of its own, in the foreground of the terminal if there is one, as a shell would do. */
		int group = (int)call(NR_getpid, 0, 0, 0, 0, 0);
		call(NR_setpgid, 0, 0, 0, 0, 0);
		call(NR_ioctl, 0, TIOCSPGRP, (long)&group, 0, 0);
		call(NR_rt_sigprocmask, SIG_SETMASK, (long)&none, 0, sizeof(none), 0);
		long error = execute(argv, envp);
		say("rdock-init: cannot execute ");
		say(argv[0]);
		say(error == -ENOENT || error == -ENOTDIR ? ": no such file or directory\n" : ": permission denied\n");
		leave(error == -ENOENT || error == -ENOTDIR ? 127 : 126);
	}
	if (child < 0) {
		say("rdock-init: cannot fork\n");
		leave(125);
	}
	for (;;) {
		long number = call(NR_rt_sigtimedwait, (long)&all, 0, 0, sizeof(all), 0);
		if (number == SIGCHLD) {
			int status = 0, ended = -1;
			long pid;
			while ((pid = call(NR_wait4, -1, (long)&status, WNOHANG, 0, 0)) > 0)
				if (pid == child)
					ended = decode(status);
			if (ended >= 0)
				leave(ended);
		} else if (number > 0 && number != SIGTTIN && number != SIGTTOU) {
			call(NR_kill, child, number, 0, 0, 0);
		}
	}
}

static void last_step(char **argv, char **envp)
{
	int fd = 0;

	for (char *digit = argv[0]; *digit; digit++)
		fd = fd * 10 + (*digit - '0');
	call(NR_fcntl, fd, F_SETFD, FD_CLOEXEC, 0, 0);
	int number = (int)-call(NR_execve, (long)argv[1], (long)(argv + 2), (long)envp, 0, 0);
	call(NR_write, fd, (long)&number, sizeof(number), 0, 0);
	leave(127);
}

__attribute__((used)) static void begin(long *stack)
{
	long argc = stack[0];
	char **argv = (char **)(stack + 1), **envp = argv + argc + 1;

	if (argc > 3 && same(last_part(argv[0]), "exec"))
		last_step(argv + 1, envp);
	if (argc > 2 && same(argv[1], "--"))
		init(argv + 2, envp);
	say("Usage: docker-init -- COMMAND [ARG...]\n");
	leave(125);
}
