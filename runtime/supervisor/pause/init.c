#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

/* what execve(2) has failed with, as shells tell it */
static int exec_code(int error)
{
	return error == ENOENT ? 127 : 126;
}

static int exit_code(int status)
{
	return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

static pid_t run(char **argv, const sigset_t *before)
{
	pid_t pid = fork();

	if (pid != 0)
		return pid;
	/* A group of its own, in the foreground of the terminal where there is one: what the terminal sends reaches it. */
	setpgid(0, 0);
	signal(SIGTTOU, SIG_IGN);
	tcsetpgrp(STDIN_FILENO, getpgrp());
	signal(SIGTTOU, SIG_DFL);
	sigprocmask(SIG_SETMASK, before, NULL);
	execvp(argv[0], argv);
	{
		int code = exec_code(errno);

		fprintf(stderr, "%s: %s\n", argv[0], strerror(errno));
		_exit(code);
	}
}

/* reap takes what has ended, and ends with the child. */
static void reap(pid_t child)
{
	for (;;) {
		int status;
		pid_t pid = waitpid(-1, &status, WNOHANG);

		if (pid <= 0)
			return;
		if (pid == child)
			_exit(exit_code(status));
	}
}

/* glibc hands the arguments of main to constructors. */
__attribute__((constructor)) static void init_instead_of_go(int argc, char **argv)
{
	sigset_t all, before;
	const char *name;
	pid_t child;

	if (argc < 3 || strcmp(argv[1], "--") != 0)
		return;
	name = strrchr(argv[0], '/');
	if (strcmp(name ? name + 1 : argv[0], "docker-init") != 0)
		return;
	prctl(PR_SET_NAME, "docker-init");
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	sigfillset(&all);
	/* What the kernel sends for a fault of this program is not for another. */
	sigdelset(&all, SIGSEGV);
	sigdelset(&all, SIGBUS);
	sigdelset(&all, SIGFPE);
	sigdelset(&all, SIGILL);
	sigdelset(&all, SIGTRAP);
	sigdelset(&all, SIGABRT);
	sigdelset(&all, SIGSYS);
	sigdelset(&all, SIGTTIN);
	sigdelset(&all, SIGTTOU);
	signal(SIGTTIN, SIG_IGN);
	signal(SIGTTOU, SIG_IGN);
	sigprocmask(SIG_BLOCK, &all, &before);
	child = run(argv + 2, &before);
	if (child < 0) {
		fprintf(stderr, "docker-init: fork: %s\n", strerror(errno));
		_exit(126);
	}
	for (;;) {
		int sig = sigwaitinfo(&all, NULL);

		if (sig == SIGCHLD)
			reap(child);
		else if (sig > 0)
			kill(child, sig);
		else if (errno != EINTR)
			_exit(125);
	}
}
