/* What messages cost a C client: connections that are opened as yardstick-client.c does, each of which sends one line a second, made of its own number,
 * the number of the message and sixteen characters of chance, and compares what comes back byte by byte. One thread, epoll, edge-triggered, all sends spread
 * evenly over the second.
 * usage: yardstick-messages PORT CONNECTIONS SOURCE_ADDRESS FIRST_SOURCE_PORT SECONDS     prints one JSON line when all are open, and a second one, with
 * the CPU of the seconds between, SECONDS after that */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define EVENTS_MAX 1024
#define MESSAGE_BYTES_MAX 64
/* what is still on its way is waited for */
#define ANSWER_SECONDS_MAX 30

struct connection {
  int fd;
  int length, heard;
  unsigned long sequence;
  char text[MESSAGE_BYTES_MAX];
};

static unsigned long sent, answered, wrong;
static uint64_t chance = 88172645463325252ull;

static double seconds_now(void) {
  struct timespec moment;
  clock_gettime(CLOCK_MONOTONIC, &moment);
  return moment.tv_sec + moment.tv_nsec / 1e9;
}

static double cpu_now(void) {
  struct rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_utime.tv_sec + usage.ru_stime.tv_sec + (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

static uint64_t next_chance(void) {
  chance ^= chance << 13;
  chance ^= chance >> 7;
  chance ^= chance << 17;
  return chance;
}

static void say(struct connection *each, int number) {
  if (each->heard < each->length) return;
  each->length = snprintf(each->text, sizeof each->text, "%d %lu %016llx\n", number, each->sequence++, (unsigned long long)next_chance());
  each->heard = 0;
  if (send(each->fd, each->text, each->length, MSG_NOSIGNAL) != each->length) { perror("send"); exit(1); }
  sent++;
}

static void hear(struct connection *each) {
  char bytes[4096];
  ssize_t count;
  while ((count = recv(each->fd, bytes, sizeof bytes, MSG_DONTWAIT)) > 0) {
    if (count > each->length - each->heard || memcmp(bytes, each->text + each->heard, count) != 0) wrong++;
    each->heard += count;
    if (each->heard == each->length) answered++;
    /* An edge comes again with the next bytes. */
    if ((size_t)count < sizeof bytes) return;
  }
}

int main(int argc, char **argv) {
  if (argc != 6) { fprintf(stderr, "usage: yardstick-messages PORT CONNECTIONS SOURCE FIRST_PORT SECONDS\n"); return 2; }
  int wanted = atoi(argv[2]), next_port = atoi(argv[4]), yes = 1, opened = 0;
  double seconds = atof(argv[5]);
  struct sockaddr_in source = {.sin_family = AF_INET}, target = {.sin_family = AF_INET};
  target.sin_port = htons(atoi(argv[1]));
  target.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  inet_pton(AF_INET, argv[3], &source.sin_addr);
  struct connection *all = calloc(wanted, sizeof *all);
  int poller = epoll_create1(EPOLL_CLOEXEC);
  while (opened < wanted && next_port < 65536) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) { perror("socket"); return 1; }
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    source.sin_port = htons(next_port++);
    if (bind(fd, (struct sockaddr *)&source, sizeof source) < 0 || connect(fd, (struct sockaddr *)&target, sizeof target) < 0) { close(fd); continue; }
    struct epoll_event interest = {.events = EPOLLIN | EPOLLET, .data.u32 = opened};
    epoll_ctl(poller, EPOLL_CTL_ADD, fd, &interest);
    all[opened++].fd = fd;
  }
  printf("{\"open\":%d}\n", opened);
  fflush(stdout);
  if (opened < wanted) return 1;
  struct epoll_event events[EVENTS_MAX];
  double began = seconds_now(), cpu_began = cpu_now();
  unsigned long said = 0;
  for (double now = began; now < began + seconds; now = seconds_now()) {
    unsigned long due = (now - began) * wanted;
    for (; said < due; said++) say(&all[said % wanted], said % wanted);
    int count = epoll_wait(poller, events, EVENTS_MAX, 1);
    for (int i = 0; i < count; i++) hear(&all[events[i].data.u32]);
  }
  for (double now = began; answered < sent && now < began + seconds + ANSWER_SECONDS_MAX; now = seconds_now()) {
    int count = epoll_wait(poller, events, EVENTS_MAX, 1);
    for (int i = 0; i < count; i++) hear(&all[events[i].data.u32]);
  }
  printf("{\"sent\":%lu,\"answered\":%lu,\"wrong\":%lu,\"cpuSeconds\":%.4f}\n", sent, answered, wrong, cpu_now() - cpu_began);
  return 0;
}
