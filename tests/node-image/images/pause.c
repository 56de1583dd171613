/* Holds a pod's namespaces: waits for ever, and buries the processes that are left to it. */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

static void bury(int signal) {
  (void)signal;
  while (waitpid(-1, NULL, WNOHANG) > 0) {
  }
}

static void end(int signal) {
  (void)signal;
  _exit(0);
}

static int on(int signal, void (*handler)(int), int flags) {
  struct sigaction action;
  memset(&action, 0, sizeof action);
  action.sa_handler = handler;
  action.sa_flags = flags;
  return sigaction(signal, &action, NULL);
}

int main(void) {
  if (on(SIGINT, end, 0) || on(SIGTERM, end, 0) || on(SIGCHLD, bury, SA_NOCLDSTOP)) {
    perror("sigaction");
    return 1;
  }
  for (;;) {
    pause();
  }
}
