/* The measurements' target: accepts, keeps, and echoes what comes. Several processes share one port by SO_REUSEPORT, because
 * each has descriptors for its share only.
 * usage: yardstick-server PROCESSES [silent]     prints the port that it listens on; says how many it has accepted for each line of its
 * standard input, and ends when that does. silent: what comes is read, and nothing is said */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define BACKLOG 65535
#define EVENTS_MAX 256
#define ACCEPTS_PER_TURN_MAX 128

static char bytes[32768];
static int is_silent;
/* of all processes */
static unsigned long *accepted;

/* A listening socket on 127.0.0.1; port 0 lets the kernel choose, and *port tells what it chose. */
static int open_listener(int *port) {
  struct sockaddr_in where;
  socklen_t where_size = sizeof where;
  int yes = 1;
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) { perror("socket"); exit(1); }
  setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &yes, sizeof yes);
  where.sin_family = AF_INET;
  where.sin_port = htons(*port);
  where.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (bind(fd, (struct sockaddr *)&where, sizeof where) < 0) { perror("bind"); exit(1); }
  if (listen(fd, BACKLOG) < 0) { perror("listen"); exit(1); }
  getsockname(fd, (struct sockaddr *)&where, &where_size);
  *port = ntohs(where.sin_port);
  return fd;
}

static void watch(int poller, int fd) {
  struct epoll_event interest = {.events = EPOLLIN, .data.fd = fd};
  if (epoll_ctl(poller, EPOLL_CTL_ADD, fd, &interest) < 0) close(fd);
}

static void accept_some(int poller, int listener) {
  for (int i = 0; i < ACCEPTS_PER_TURN_MAX; i++) {
    int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) return;
    __atomic_add_fetch(accepted, 1, __ATOMIC_RELAXED);
    watch(poller, fd);
  }
}

static void echo_some(int fd) {
  ssize_t count = recv(fd, bytes, sizeof bytes, 0);
  if (count <= 0 || (!is_silent && send(fd, bytes, count, MSG_NOSIGNAL) != count)) close(fd);
}

static void serve(int listener) {
  struct epoll_event events[EVENTS_MAX];
  int poller = epoll_create1(EPOLL_CLOEXEC);
  watch(poller, listener);
  for (;;) {
    int count = epoll_wait(poller, events, EVENTS_MAX, -1);
    for (int i = 0; i < count; i++) {
      if (events[i].data.fd == listener) accept_some(poller, listener);
      else echo_some(events[i].data.fd);
    }
  }
}

int main(int argc, char **argv) {
  int processes = argc >= 2 ? atoi(argv[1]) : 0;
  int port = 0;
  if (processes < 1) { fprintf(stderr, "usage: yardstick-server PROCESSES [silent]\n"); return 2; }
  is_silent = argc == 3 && strcmp(argv[2], "silent") == 0;
  accepted = mmap(NULL, sizeof *accepted, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (accepted == MAP_FAILED) { perror("mmap"); return 1; }
  for (int i = 0; i < processes; i++) {
    int listener = open_listener(&port);
    if (fork() == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      serve(listener);
    }
    close(listener);
  }
  printf("%d\n", port);
  fflush(stdout);
  while (read(0, bytes, sizeof bytes) > 0) {
    printf("%lu\n", __atomic_load_n(accepted, __ATOMIC_RELAXED));
    fflush(stdout);
  }
  kill(0, SIGKILL);
}
