/* The yardstick: what the kernel lets one process do when no runtime is in the way. One thread, epoll, explicit source
 * ports, the same system calls as the holder.
 * usage: yardstick-client PORT CONNECTIONS SOURCE_ADDRESS FIRST_SOURCE_PORT PENDING_MAX [hold]     prints one JSON line;
 * with `hold` it ends when its standard input does */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define EVENTS_MAX 1024

static int poller, opened, failed, in_flight, next_port;
static struct sockaddr_in source, target;

static double seconds_now(void) {
  struct timespec moment;
  clock_gettime(CLOCK_MONOTONIC, &moment);
  return moment.tv_sec + moment.tv_nsec / 1e9;
}

/* Starts one connect from the next source port; 0 when the port is in somebody's use and nothing was started. */
static int dial(void) {
  int yes = 1;
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) { perror("socket"); exit(1); }
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
  source.sin_port = htons(next_port++);
  if (bind(fd, (struct sockaddr *)&source, sizeof source) < 0) { close(fd); return 0; }
  if (connect(fd, (struct sockaddr *)&target, sizeof target) < 0 && errno != EINPROGRESS) { close(fd); return 0; }
  struct epoll_event interest = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.fd = fd};
  epoll_ctl(poller, EPOLL_CTL_ADD, fd, &interest);
  in_flight++;
  return 1;
}

static void take_events(void) {
  static struct epoll_event events[EVENTS_MAX];
  int count = epoll_wait(poller, events, EVENTS_MAX, 100);
  for (int i = 0; i < count; i++) {
    int error = 0;
    socklen_t error_size = sizeof error;
    getsockopt(events[i].data.fd, SOL_SOCKET, SO_ERROR, &error, &error_size);
    in_flight--;
    if (error == 0) opened++;
    else failed++;
  }
}

int main(int argc, char **argv) {
  if (argc < 6) { fprintf(stderr, "usage: yardstick-client PORT CONNECTIONS SOURCE FIRST_PORT PENDING_MAX [hold]\n"); return 2; }
  int wanted = atoi(argv[2]), pending_max = atoi(argv[5]), started = 0;
  next_port = atoi(argv[4]);
  target.sin_family = source.sin_family = AF_INET;
  target.sin_port = htons(atoi(argv[1]));
  target.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  inet_pton(AF_INET, argv[3], &source.sin_addr);
  poller = epoll_create1(EPOLL_CLOEXEC);
  double began = seconds_now();
  while (opened + failed < wanted) {
    while (started < wanted && in_flight < pending_max && next_port < 65536) started += dial();
    if (next_port == 65536 && in_flight == 0) break;
    take_events();
  }
  double took = seconds_now() - began;
  struct rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  double cpu = usage.ru_utime.tv_sec + usage.ru_stime.tv_sec + (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
  printf("{\"open\":%d,\"failed\":%d,\"seconds\":%.4f,\"cpuSeconds\":%.4f}\n", opened, failed, took, cpu);
  fflush(stdout);
  while (argc > 6 && read(0, &usage, sizeof usage) > 0) continue;
}
