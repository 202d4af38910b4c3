// Fake OpenAI-style upstream: epoll, single thread. usage: upstream PORT|unix:PATH [default_interval_ms]
// [default_chunks] Non-stream: canned chat.completion (~700 B). Stream ("stream":true in the body): SSE
// chunks, each carries t=<CLOCK_MONOTONIC ns>. Body knobs: "max_tokens":N = chunks, "seed":M = ms between
// chunks (0 = as fast as the peer reads: backpressure test), "n_bytes" no. "presence_penalty" ignored. GET
// /stats = counters.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>
typedef unsigned long long u64;
typedef long long i64;
static u64 now() {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000000000ULL + t.tv_nsec;
}
typedef struct Conn {
  int fd;
  char *in;
  size_t inlen, incap;
  char *out;
  size_t outlen, outoff, outcap;
  int streaming;
  int left, total;
  u64 due, iv;
  int aidx;
  int wantw;
} Conn;
static int ep;
static Conn **act;
static int nact, capact;
static u64 n_req, n_stream, n_abort, n_done, bytes_out, n_conn, n_conn_total;
static int def_iv = 20, def_n = 100;
static char canned[4096];
static int cannedlen;
static void outappend(Conn *c, const char *d, size_t n) {
  if (c->outoff == c->outlen)
    c->outoff = c->outlen = 0;
  if (c->outlen + n > c->outcap) {
    c->outcap = (c->outlen + n) * 2 + 1024;
    c->out = realloc(c->out, c->outcap);
  }
  memcpy(c->out + c->outlen, d, n);
  c->outlen += n;
}
static void actrm(Conn *c) {
  if (c->aidx >= 0) {
    Conn *l = act[--nact];
    act[c->aidx] = l;
    l->aidx = c->aidx;
    c->aidx = -1;
  }
}
static void cclose(Conn *c) {
  if (c->streaming)
    n_abort++;
  actrm(c);
  epoll_ctl(ep, EPOLL_CTL_DEL, c->fd, 0);
  close(c->fd);
  free(c->in);
  free(c->out);
  free(c);
  n_conn--;
}
static int flush(Conn *c) {
  while (c->outoff < c->outlen) {
    ssize_t r = send(c->fd, c->out + c->outoff, c->outlen - c->outoff, MSG_NOSIGNAL);
    if (r < 0) {
      if (errno == EAGAIN) {
        if (!c->wantw) {
          struct epoll_event e = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP, .data.ptr = c};
          epoll_ctl(ep, EPOLL_CTL_MOD, c->fd, &e);
          c->wantw = 1;
        }
        return 0;
      }
      return -1;
    }
    c->outoff += r;
    bytes_out += r;
  }
  if (c->wantw) {
    struct epoll_event e = {.events = EPOLLIN | EPOLLRDHUP, .data.ptr = c};
    epoll_ctl(ep, EPOLL_CTL_MOD, c->fd, &e);
    c->wantw = 0;
  }
  return 1;
}
static void chunk(Conn *c, const char *d, int n) {
  char h[16];
  int k = sprintf(h, "%x\r\n", n);
  outappend(c, h, k);
  outappend(c, d, n);
  outappend(c, "\r\n", 2);
}
static void emit(Conn *c) {
  char b[1024];
  int n = sprintf(b,
                  "data: "
                  "{\"id\":\"chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT\",\"object\":\"chat.completion.chunk\","
                  "\"created\":1741569952,\"model\":\"fake-model-2026\",\"service_tier\":\"default\","
                  "\"system_fingerprint\":\"fp_44709d6fcb\",\"choices\":[{\"index\":0,\"delta\":{\"content\":"
                  "\"t=%llu \"},\"logprobs\":null,\"finish_reason\":null}]}\n\n",
                  now());
  chunk(c, b, n);
}
static void emitend(Conn *c) {
  char b[1024];
  int n = sprintf(b,
                  "data: "
                  "{\"id\":\"chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT\",\"object\":\"chat.completion.chunk\","
                  "\"created\":1741569952,\"model\":\"fake-model-2026\",\"choices\":[{\"index\":0,\"delta\":{"
                  "},\"finish_reason\":\"stop\"}]}\n\n"
                  "data: "
                  "{\"id\":\"chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT\",\"object\":\"chat.completion.chunk\","
                  "\"created\":1741569952,\"model\":\"fake-model-2026\",\"choices\":[],\"usage\":{\"prompt_"
                  "tokens\":19,\"completion_tokens\":%d,\"total_tokens\":%d}}\n\ndata: [DONE]\n\n",
                  c->total, c->total + 19);
  chunk(c, b, n);
  outappend(c, "0\r\n\r\n", 5);
}
static i64 knob(const char *b, size_t n, const char *k, i64 d) {
  char *p = memmem(b, n, k, strlen(k));
  if (!p)
    return d;
  p += strlen(k);
  while (*p == ':' || *p == ' ')
    p++;
  return atoll(p);
}
// returns consumed bytes or 0
static size_t handle(Conn *c, char *s, size_t n) {
  char *e = memmem(s, n, "\r\n\r\n", 4);
  if (!e)
    return 0;
  size_t hl = e - s + 4;
  *e = 0;
  char *cl = strcasestr(s, "\r\ncontent-length:");
  char *te = strcasestr(s, "\r\ntransfer-encoding: chunked");
  char *ex = strcasestr(s, "\r\nexpect: 100");
  *e = '\r';
  size_t bl = 0;
  if (cl) {
    bl = strtoul(cl + 17, 0, 10);
    if (n < hl + bl) {
      if (ex && n == hl)
        outappend(c, "HTTP/1.1 100 Continue\r\n\r\n", 25), flush(c);
      return 0;
    }
  } else if (te) {
    char *z = memmem(s + hl, n - hl, "0\r\n\r\n", 5);
    char *q = s + hl; /* walk the chunks */
    (void)z;
    for (;;) {
      char *x = memmem(q, n - (q - s), "\r\n", 2);
      if (!x)
        return 0;
      size_t k = strtoul(q, 0, 16);
      if ((size_t)(x - s) + 2 + k + 2 > n)
        return 0;
      q = x + 2 + k + 2;
      if (k == 0)
        break;
    }
    bl = q - (s + hl);
  }
  char *b = s + hl;
  n_req++;
  if (!memcmp(s, "GET /stats", 10)) {
    char o[512], h[256];
    int k = sprintf(o,
                    "{\"req\":%llu,\"streams\":%llu,\"active\":%d,\"aborted\":%llu,\"done\":%llu,\"bytes_"
                    "out\":%llu,\"conns\":%llu,\"conns_total\":%llu}",
                    n_req, n_stream, nact, n_abort, n_done, bytes_out, n_conn, n_conn_total);
    int m = sprintf(h, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n", k);
    outappend(c, h, m);
    outappend(c, o, k);
  } else if (bl && (memmem(b, bl, "\"stream\":true", 13) || memmem(b, bl, "\"stream\": true", 14))) {
    n_stream++;
    c->streaming = 1;
    c->total = c->left = knob(b, bl, "\"max_tokens\"", def_n);
    c->iv = knob(b, bl, "\"seed\"", def_iv) * 1000000ULL;
    c->due = now();
    const char *h = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nCache-Control: "
                    "no-cache\r\nx-request-id: req_123\r\nTransfer-Encoding: chunked\r\n\r\n";
    outappend(c, h, strlen(h));
    if (nact == capact) {
      capact = capact * 2 + 64;
      act = realloc(act, capact * sizeof *act);
    }
    c->aidx = nact;
    act[nact++] = c;
  } else
    outappend(c, canned, cannedlen);
  return hl + bl;
}
static int step(Conn *c, u64 t) { // emit what is due; -1 closed
  if (c->iv == 0) {
    while (c->left > 0 && c->outlen - c->outoff < 65536 && !c->wantw) {
      for (int i = 0; i < 64 && c->left > 0; i++) {
        emit(c);
        c->left--;
      }
      if (flush(c) < 0)
        return -1;
    }
  } else
    while (c->left > 0 && c->due <= t) {
      emit(c);
      c->left--;
      c->due += c->iv;
    }
  if (c->left <= 0) {
    emitend(c);
    c->streaming = 0;
    n_done++;
    actrm(c);
  }
  return flush(c) < 0 ? -1 : 0;
}
int main(int ac, char **av) {
  signal(SIGPIPE, SIG_IGN);
  if (ac > 2)
    def_iv = atoi(av[2]);
  if (ac > 3)
    def_n = atoi(av[3]);
  const char *cj =
      "{\n  \"id\": \"chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT\",\n  \"object\": \"chat.completion\",\n  "
      "\"created\": 1741569952,\n  \"model\": \"fake-model-2026\",\n  \"choices\": [\n    {\n      "
      "\"index\": 0,\n      \"message\": {\n        \"role\": \"assistant\",\n        \"content\": \"Hello! "
      "How can I assist you today?\",\n        \"refusal\": null,\n        \"annotations\": []\n      },\n   "
      "   \"logprobs\": null,\n      \"finish_reason\": \"stop\"\n    }\n  ],\n  \"usage\": {\n    "
      "\"prompt_tokens\": 19,\n    \"completion_tokens\": 10,\n    \"total_tokens\": 29,\n    "
      "\"prompt_tokens_details\": {\"cached_tokens\": 0, \"audio_tokens\": 0},\n    "
      "\"completion_tokens_details\": {\"reasoning_tokens\": 0, \"audio_tokens\": 0}\n  },\n  "
      "\"service_tier\": \"default\"\n}\n";
  cannedlen = sprintf(canned,
                      "HTTP/1.1 200 OK\r\nServer: fake\r\nContent-Type: application/json\r\nx-request-id: "
                      "req_123\r\nContent-Length: %zu\r\n\r\n%s",
                      strlen(cj), cj);
  int ls;
  if (!strncmp(av[1], "unix:", 5)) {
    ls = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    strcpy(a.sun_path, av[1] + 5);
    unlink(a.sun_path);
    bind(ls, (void *)&a, sizeof a);
  } else {
    ls = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    int one = 1;
    setsockopt(ls, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    struct sockaddr_in a = {
        .sin_family = AF_INET, .sin_port = htons(atoi(av[1])), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (bind(ls, (void *)&a, sizeof a)) {
      perror("bind");
      return 1;
    }
  }
  listen(ls, 4096);
  ep = epoll_create1(0);
  struct epoll_event e = {.events = EPOLLIN, .data.ptr = 0};
  epoll_ctl(ep, EPOLL_CTL_ADD, ls, &e);
  struct epoll_event ev[512];
  for (;;) {
    struct timespec ts = {0, 1000000};
    u64 t = now();
    if (nact) {
      u64 m = ~0ULL;
      for (int i = 0; i < nact; i++) {
        u64 d = act[i]->iv ? act[i]->due : ~0ULL;
        if (d < m)
          m = d;
      }
      i64 w = m == ~0ULL ? 1000000 : (i64)(m - t);
      if (w < 0)
        w = 0;
      if (w > 100000000)
        w = 100000000;
      ts.tv_nsec = w;
    }
    int k = epoll_pwait2(ep, ev, 512, nact ? &ts : NULL, NULL);
    for (int i = 0; i < k; i++) {
      Conn *c = ev[i].data.ptr;
      if (!c) {
        for (;;) {
          int fd = accept4(ls, 0, 0, SOCK_NONBLOCK);
          if (fd < 0)
            break;
          int one = 1;
          setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
          c = calloc(1, sizeof *c);
          c->fd = fd;
          c->aidx = -1;
          struct epoll_event e = {.events = EPOLLIN | EPOLLRDHUP, .data.ptr = c};
          epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e);
          n_conn++;
          n_conn_total++;
        }
        continue;
      }
      int dead = 0;
      if (ev[i].events & EPOLLOUT) {
        int r = flush(c);
        if (r < 0)
          dead = 1;
        else if (r > 0 && c->streaming && step(c, now()) < 0)
          dead = 1;
      }
      if (!dead && ev[i].events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) {
        for (;;) {
          if (c->incap - c->inlen < 65536) {
            c->incap = c->incap ? c->incap * 2 : 16384;
            if (c->incap - c->inlen < 16384)
              c->incap += 65536;
            c->in = realloc(c->in, c->incap + 1);
          }
          ssize_t r = recv(c->fd, c->in + c->inlen, c->incap - c->inlen, 0);
          if (r > 0) {
            c->inlen += r;
            c->in[c->inlen] = 0;
            if ((size_t)r < c->incap - (c->inlen - r))
              break;
          } else if (r == 0) {
            dead = 1;
            break;
          } else {
            if (errno != EAGAIN)
              dead = 1;
            break;
          }
        }
        if (!dead) {
          size_t off = 0, u;
          while (!c->streaming && off < c->inlen && (u = handle(c, c->in + off, c->inlen - off)))
            off += u;
          if (off) {
            memmove(c->in, c->in + off, c->inlen - off);
            c->inlen -= off;
            if (c->inlen == 0 && c->incap > 262144) {
              free(c->in);
              c->in = 0;
              c->incap = 0;
            }
            if (c->streaming) {
              if (step(c, now()) < 0)
                dead = 1;
            } else if (flush(c) < 0)
              dead = 1;
          }
        }
      }
      if (dead)
        cclose(c);
    }
    t = now();
    for (int i = 0; i < nact;) {
      Conn *c = act[i];
      int before = nact;
      if (c->iv && c->due <= t && step(c, t) < 0) {
        cclose(c);
        continue;
      }
      if (nact == before)
        i++;
    }
  }
}
