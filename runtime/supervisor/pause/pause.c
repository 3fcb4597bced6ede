#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

/* glibc hands the arguments of main to constructors. */
__attribute__((constructor)) static void pause_instead_of_go(int argc, char **argv)
{
	sigset_t waited;

	if (argc != 2 || strcmp(argv[1], "pause") != 0)
		return;
	prctl(PR_SET_NAME, "pause");
	sigemptyset(&waited);
	sigaddset(&waited, SIGCHLD);
	sigaddset(&waited, SIGTERM);
	sigaddset(&waited, SIGINT);
	sigprocmask(SIG_BLOCK, &waited, NULL);
	for (;;) {
		int sig = sigwaitinfo(&waited, NULL);

		if (sig == SIGTERM || sig == SIGINT)
			_exit(0);
		if (sig < 0 && errno != EINTR)
			_exit(1);
		while (waitpid(-1, NULL, WNOHANG) > 0)
			;
	}
}
