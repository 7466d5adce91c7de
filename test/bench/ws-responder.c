/* A WebSocket server that does only what a measurement needs: it upgrades, and answers each ping with its pong. Several
 * processes share one port by SO_REUSEPORT. It takes requests and frames to arrive in one piece, as they do on loopback.
 * usage: ws-responder PROCESSES     prints the port that it listens on; ends when its standard input does */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define BACKLOG 65535
#define EVENTS_MAX 256
#define ACCEPTS_PER_TURN_MAX 128
#define KEY_BYTES 24

static const char guid[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
static unsigned char bytes[32768];

static uint32_t rotated(uint32_t word, int by) { return (word << by) | (word >> (32 - by)); }

/* SHA-1 (FIPS 180-4) of the 60 bytes of key and GUID: two blocks, always. */
static void sha1_of_60(const unsigned char *text, unsigned char digest[20]) {
  uint32_t state[5] = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0};
  unsigned char padded[128] = {0};
  memcpy(padded, text, 60);
  padded[60] = 0x80;
  padded[126] = (60 * 8) >> 8;
  padded[127] = (60 * 8) & 255;
  for (int block = 0; block < 2; block++) {
    uint32_t w[80];
    for (int i = 0; i < 16; i++) {
      const unsigned char *at = padded + block * 64 + i * 4;
      w[i] = (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
    }
    for (int i = 16; i < 80; i++) w[i] = rotated(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1);
    uint32_t a = state[0], b = state[1], c = state[2], d = state[3], e = state[4];
    for (int i = 0; i < 80; i++) {
      uint32_t f, k;
      if (i < 20) { f = (b & c) | (~b & d); k = 0x5a827999; }
      else if (i < 40) { f = b ^ c ^ d; k = 0x6ed9eba1; }
      else if (i < 60) { f = (b & c) | (b & d) | (c & d); k = 0x8f1bbcdc; }
      else { f = b ^ c ^ d; k = 0xca62c1d6; }
      uint32_t next = rotated(a, 5) + f + e + k + w[i];
      e = d; d = c; c = rotated(b, 30); b = a; a = next;
    }
    state[0] += a; state[1] += b; state[2] += c; state[3] += d; state[4] += e;
  }
  for (int i = 0; i < 20; i++) digest[i] = state[i / 4] >> (24 - 8 * (i % 4));
}

static void base64_of_20(const unsigned char *in, char out[29]) {
  static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  for (int i = 0, at = 0; i < 20; i += 3) {
    uint32_t three = (uint32_t)in[i] << 16 | (uint32_t)in[i + 1] << 8 | (i + 2 < 20 ? in[i + 2] : 0);
    for (int shift = 18; shift >= 0; shift -= 6) out[at++] = digits[(three >> shift) & 63];
  }
  out[27] = '=';
  out[28] = 0;
}

static int upgrade(int fd, size_t count) {
  static const char name[] = "Sec-WebSocket-Key: ";
  unsigned char text[60], digest[20];
  char accept[29], answer[256];
  char *key = memmem(bytes, count, name, sizeof name - 1);
  if (key == NULL || (size_t)((unsigned char *)key - bytes) + sizeof name - 1 + KEY_BYTES > count) return -1;
  memcpy(text, key + sizeof name - 1, KEY_BYTES);
  memcpy(text + KEY_BYTES, guid, 36);
  sha1_of_60(text, digest);
  base64_of_20(digest, accept);
  int length = snprintf(answer, sizeof answer,
      "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
      "Sec-WebSocket-Accept: %s\r\n\r\n", accept);
  return send(fd, answer, length, MSG_NOSIGNAL) == length ? 0 : -1;
}

/* Turns a masked ping into its pong, in place. */
static int answer_ping(int fd, size_t count) {
  if (count < 6 || bytes[0] != 0x89) return -1;
  size_t length = bytes[1] & 127;
  if (length > 125 || count != 6 + length) return -1;
  for (size_t i = 0; i < length; i++) bytes[6 + i] ^= bytes[2 + (i & 3)];
  bytes[4] = 0x8a;
  bytes[5] = length;
  return send(fd, bytes + 4, 2 + length, MSG_NOSIGNAL) == (ssize_t)(2 + length) ? 0 : -1;
}

static void answer(int fd) {
  ssize_t count = recv(fd, bytes, sizeof bytes, 0);
  if (count <= 0 || (bytes[0] == 'G' ? upgrade(fd, count) : answer_ping(fd, count)) < 0) close(fd);
}

static int open_listener(int *port) {
  struct sockaddr_in where = {.sin_family = AF_INET, .sin_port = htons(*port)};
  socklen_t where_size = sizeof where;
  int yes = 1;
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) { perror("socket"); exit(1); }
  setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &yes, sizeof yes);
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

static void serve(int listener) {
  struct epoll_event events[EVENTS_MAX];
  int poller = epoll_create1(EPOLL_CLOEXEC);
  watch(poller, listener);
  for (;;) {
    int count = epoll_wait(poller, events, EVENTS_MAX, -1);
    for (int i = 0; i < count; i++) {
      if (events[i].data.fd != listener) { answer(events[i].data.fd); continue; }
      for (int tries = 0; tries < ACCEPTS_PER_TURN_MAX; tries++) {
        int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) break;
        watch(poller, fd);
      }
    }
  }
}

int main(int argc, char **argv) {
  int processes = argc > 1 ? atoi(argv[1]) : 1;
  int port = 0;
  char end;
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
  while (read(0, &end, 1) > 0) {}
  return 0;
}
