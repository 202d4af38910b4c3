// HTTP/1.1 load client: epoll, single thread.
// load -t HOST:PORT|unix:PATH -p PATH -b BODYFILE [-H "K: V"]... -c CONNS -d SECS [-r RATE] [-s] [-w
// WARMSECS]
//  closed loop by default; -r = open loop at RATE/s (latency counted from the scheduled time);
//  -s = streams: TTFT (request sent -> first data byte with t=), chunk latency = now - t= (CLOCK_MONOTONIC ns
//  written by the upstream) -R n = streams are started at n/s (ramp)   -1 = each stream connection sends one
//  request only, until -d   -x = nothing of a response is read: a client that went to sleep
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
typedef struct {
  u64 *v;
  size_t n, cap;
} Vec;
static void push(Vec *a, u64 x) {
  if (a->n == a->cap) {
    a->cap = a->cap * 2 + 4096;
    a->v = realloc(a->v, a->cap * 8);
  }
  a->v[a->n++] = x;
}
static int cmp(const void *a, const void *b) {
  u64 x = *(u64 *)a, y = *(u64 *)b;
  return x < y ? -1 : x > y;
}
static double q(Vec *a, double p) {
  if (!a->n)
    return -1;
  size_t i = a->n * p;
  if (i >= a->n)
    i = a->n - 1;
  return a->v[i] / 1000.0;
}
typedef struct {
  int fd;
  int busy, connecting;
  u64 t0;
  char *in;
  size_t inlen, incap, scan;
  char *tail;
  size_t sent;
  int first;
  int hdr;
  i64 clen;
  int chunked;
  size_t hl;
  int status;
  int eofend;
} Conn;
static char *req;
static size_t reqlen;
static int ep, stream, one, deaf;
static struct sockaddr_storage sa;
static socklen_t sal;
static int fam;
static Vec lat, ttft, chl;
static u64 allchunks, okc, err, n2, chunks, bytes, sdone, mismatch;
static int recording;
static int open_now, open_max;
static void conn_open(Conn *c, int i) {
  // A Unix socket whose backlog is full refuses a connect that does not wait.
  c->fd = socket(fam, SOCK_STREAM | (fam == AF_UNIX ? 0 : SOCK_NONBLOCK), 0);
  int o = 1;
  if (fam == AF_INET)
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &o, sizeof o);
  int r = connect(c->fd, (void *)&sa, sal);
  if (r < 0 && errno != EINPROGRESS && errno != EAGAIN) {
    perror("connect");
  }
  fcntl(c->fd, F_SETFL, O_NONBLOCK);
  struct epoll_event e = {.events = EPOLLIN, .data.u32 = i};
  epoll_ctl(ep, EPOLL_CTL_ADD, c->fd, &e);
  c->inlen = 0;
  c->busy = 0;
  c->hdr = 0;
}
static void trysend(Conn *c, int i) {
  while (c->sent < reqlen) {
    ssize_t r = send(c->fd, req + c->sent, reqlen - c->sent, MSG_NOSIGNAL);
    if (r < 0) {
      if (errno == EAGAIN || errno == ENOTCONN || errno == EINPROGRESS) {
        struct epoll_event e = {.events = EPOLLIN | EPOLLOUT, .data.u32 = i};
        epoll_ctl(ep, EPOLL_CTL_MOD, c->fd, &e);
        return;
      }
      return;
    }
    c->sent += r;
  }
  struct epoll_event e = {.events = deaf ? 0 : EPOLLIN, .data.u32 = i};
  epoll_ctl(ep, EPOLL_CTL_MOD, c->fd, &e);
}
static void start(Conn *c, int i, u64 t) {
  c->busy = 1;
  c->t0 = t;
  c->sent = 0;
  c->inlen = 0;
  c->scan = 0;
  c->hdr = 0;
  c->first = 1;
  c->status = 0;
  open_now++;
  if (open_now > open_max)
    open_max = open_now;
  trysend(c, i);
}
static int finish(Conn *c, u64 t) {
  c->busy = 0;
  open_now--;
  if (c->status >= 200 && c->status < 300) {
    if (recording) {
      okc++;
      push(&lat, t - c->t0);
    }
    sdone++;
  } else if (recording)
    n2++;
  return 1;
}
static int parse(Conn *c, u64 t) { // 1 = response complete
  if (!c->hdr) {
    char *e = memmem(c->in, c->inlen, "\r\n\r\n", 4);
    if (!e)
      return 0;
    c->hl = e - c->in + 4;
    *e = 0;
    c->status = atoi(c->in + 9);
    char *cl = strcasestr(c->in, "\r\ncontent-length:");
    c->chunked = !!strcasestr(c->in, "\r\ntransfer-encoding:");
    c->clen = cl ? atoll(cl + 17) : -1;
    *e = '\r';
    c->hdr = 1;
    c->scan = c->hl;
    if (c->status == 100) {
      memmove(c->in, c->in + c->hl, c->inlen - c->hl);
      c->inlen -= c->hl;
      c->hdr = 0;
      return parse(c, t);
    }
  }
  if (stream) {
    char *p = c->in + c->scan, *end = c->in + c->inlen;
    for (;;) {
      char *x = memmem(p, end - p, "t=", 2);
      if (!x)
        break;
      char *y = memchr(x, ' ', end - x);
      if (!y) {
        p = x;
        break;
      }
      if (y - x > 8 && x[2] >= '0' && x[2] <= '9') {
        u64 s = strtoull(x + 2, 0, 10);
        if (recording) {
          if (c->first)
            push(&ttft, t - c->t0);
          else
            push(&chl, t - s);
          chunks++;
        }
        c->first = 0;
        allchunks++;
      }
      p = y;
    }
    if (c->first == 0 || 1) {
      size_t keep = end - p;
      if (p == c->in + c->scan && keep > 24) { /* keep the last bytes only */
      }
      // find end marker, then compact
    }
    int fin = 0;
    if (c->chunked) {
      if (c->inlen - c->hl >= 5 && !memcmp(end - 5, "0\r\n\r\n", 5) &&
          (end - 7 < c->in + c->hl || (end[-6] == '\n')))
        fin = 1;
    } else if (c->clen >= 0 && (i64)(c->inlen - c->hl) >= c->clen)
      fin = 1;
    c->scan = p - c->in;
    if (!fin && c->chunked && c->scan > c->hl + 65536) {
      size_t keep = c->inlen - c->scan;
      if (keep < 64 && c->inlen > 64 + c->hl)
        keep = 64;
      memmove(c->in + c->hl, end - keep, keep);
      c->inlen = c->hl + keep;
      c->scan = c->hl + (p >= end - keep ? (size_t)(p - (end - keep)) : 0);
    }
    return fin;
  }
  if (c->chunked)
    return c->inlen - c->hl >= 5 && !memcmp(c->in + c->inlen - 5, "0\r\n\r\n", 5);
  if (c->clen >= 0)
    return (i64)(c->inlen - c->hl) >= c->clen;
  c->eofend = 1;
  return 0;
}
int main(int ac, char **av) {
  signal(SIGPIPE, SIG_IGN);
  char *target = "127.0.0.1:9000", *path = "/v1/chat/completions", *bf = 0, hdrs[8192] = "";
  int conns = 32;
  double dur = 5, rate = 0, warm = 0.5, ramp = 0;
  int o;
  while ((o = getopt(ac, av, "t:p:b:H:c:d:r:sw:R:1x")) != -1)
    switch (o) {
    case 't':
      target = optarg;
      break;
    case 'p':
      path = optarg;
      break;
    case 'b':
      bf = optarg;
      break;
    case 'H':
      strcat(hdrs, optarg);
      strcat(hdrs, "\r\n");
      break;
    case 'c':
      conns = atoi(optarg);
      break;
    case 'd':
      dur = atof(optarg);
      break;
    case 'r':
      rate = atof(optarg);
      break;
    case 's':
      stream = 1;
      break;
    case 'w':
      warm = atof(optarg);
      break;
    case 'R':
      ramp = atof(optarg);
      break;
    case '1':
      one = 1;
      break;
    case 'x':
      deaf = 1;
      break;
    }
  char *body = 0;
  long bl = 0;
  if (bf) {
    FILE *f = fopen(bf, "rb");
    fseek(f, 0, 2);
    bl = ftell(f);
    rewind(f);
    body = malloc(bl + 1);
    if (fread(body, 1, bl, f) != (size_t)bl)
      return 2;
    fclose(f);
  }
  req = malloc(bl + 16384);
  reqlen = sprintf(req, "%s %s HTTP/1.1\r\nHost: localhost\r\n%s%s", body ? "POST" : "GET", path,
                   body ? "Content-Type: application/json\r\n" : "", hdrs);
  if (body)
    reqlen += sprintf(req + reqlen, "Content-Length: %ld\r\n", bl);
  reqlen += sprintf(req + reqlen, "\r\n");
  if (body) {
    memcpy(req + reqlen, body, bl);
    reqlen += bl;
  }
  if (!strncmp(target, "unix:", 5)) {
    fam = AF_UNIX;
    struct sockaddr_un *u = (void *)&sa;
    u->sun_family = AF_UNIX;
    strcpy(u->sun_path, target + 5);
    sal = sizeof *u;
  } else {
    fam = AF_INET;
    struct sockaddr_in *s = (void *)&sa;
    s->sin_family = AF_INET;
    s->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    s->sin_port = htons(atoi(strchr(target, ':') + 1));
    sal = sizeof *s;
  }
  ep = epoll_create1(0);
  Conn *C = calloc(conns, sizeof *C);
  for (int i = 0; i < conns && !ramp; i++)
    conn_open(&C[i], i);
  struct epoll_event ev[1024];
  u64 T0 = now(), Trec = T0 + warm * 1e9, Tend = Trec + dur * 1e9;
  u64 nextk = 0;
  u64 started = 0;
  u64 tlast = 0;
  u64 iv = rate > 0 ? (u64)(1e9 / rate) : 0;
  Vec queue = {0};
  size_t qh = 0;
  if (!rate && !ramp)
    for (int i = 0; i < conns; i++) {
      start(&C[i], i, now());
      started++;
    }
  nextk = T0;
  u64 rampnext = T0;
  int hard = 0;
  for (;;) {
    u64 t = now();
    if (!recording && t >= Trec)
      recording = 1;
    if (t >= Tend) {
      if (!hard) {
        hard = 1;
        tlast = t;
      }
      if (!rate || one || stream || t > Tend + 2000000000ULL || open_now == 0)
        break;
    }
    if (ramp && t < Tend) {
      while (started < (u64)conns && rampnext <= t) {
        conn_open(&C[started], started);
        start(&C[started], started, t);
        started++;
        rampnext += 1e9 / ramp;
      }
    }
    if (rate && t < Tend) {
      while (nextk <= t) {
        push(&queue, nextk);
        nextk += iv;
      }
    }
    if (rate) {
      for (int i = 0; qh < queue.n && i < conns; i++)
        if (!C[i].busy) {
          start(&C[i], i, queue.v[qh++]);
        }
    }
    u64 w = 20000000;
    if (rate && t < Tend) {
      i64 d = nextk - t;
      w = d < 0 ? 0 : d;
    }
    if (ramp && started < (u64)conns) {
      i64 d = rampnext - t;
      if (d < 0)
        d = 0;
      if ((u64)d < w)
        w = d;
    }
    if (!recording && Trec > t && Trec - t < w)
      w = Trec - t;
    if (t < Tend && Tend - t < w)
      w = Tend - t;
    struct timespec ts = {0, w};
    int k = epoll_pwait2(ep, ev, 1024, &ts, 0);
    t = now();
    for (int x = 0; x < k; x++) {
      int i = ev[x].data.u32;
      Conn *c = &C[i];
      if (ev[x].events & EPOLLOUT)
        trysend(c, i);
      if (deaf && ev[x].events & (EPOLLHUP | EPOLLERR)) // it was cut off
        epoll_ctl(ep, EPOLL_CTL_DEL, c->fd, 0), open_now--;
      if (!deaf && ev[x].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) {
        int dead = 0, got = 0;
        for (;;) {
          if (c->incap - c->inlen < 16384) {
            c->incap = c->incap * 2 + 32768;
            c->in = realloc(c->in, c->incap + 1);
          }
          ssize_t r = recv(c->fd, c->in + c->inlen, c->incap - c->inlen, 0);
          if (r > 0) {
            c->inlen += r;
            c->in[c->inlen] = 0;
            bytes += r;
            got = 1;
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
        int fin = 0;
        if (got && c->busy)
          fin = parse(c, t);
        if (dead) {
          if (c->busy && !fin) {
            if (c->hdr && c->eofend)
              fin = 1;
            else {
              err++;
              if (getenv("DBG"))
                fprintf(stderr, "ERR in=%zu %.200s\n", c->inlen, c->in ? c->in : "");
              open_now--;
              c->busy = 0;
            }
          }
          close(c->fd);
        }
        if (fin) {
          int cc = 0;
          if (c->hdr) {
            char sv = c->in[c->hl - 1];
            c->in[c->hl - 1] = 0;
            cc = !!strcasestr(c->in, "\r\nconnection: close");
            c->in[c->hl - 1] = sv;
          }
          if (c->status / 100 != 2 && getenv("DBG"))
            fprintf(stderr, "%.600s\n", c->in);
          finish(c, t);
          if (cc && !dead) {
            close(c->fd);
            dead = 1;
          }
        }
        if (dead)
          conn_open(c, i);
        if (!c->busy && (fin || dead) && t < Tend) {
          if (rate) {
            if (qh < queue.n)
              start(c, i, queue.v[qh++]);
          } else if (!one && !(ramp && (u64)i >= started))
            start(c, i, now());
        }
      }
    }
  }
  double el = (tlast - Trec) / 1e9;
  if (rate && !stream)
    el = dur;
  qsort(lat.v, lat.n, 8, cmp);
  qsort(ttft.v, ttft.n, 8, cmp);
  qsort(chl.v, chl.n, 8, cmp);
  printf("{\"ok\":%llu,\"rps\":%.1f,\"err\":%llu,\"non2xx\":%llu,\"p50\":%.1f,\"p90\":%.1f,\"p99\":%.1f,"
         "\"max\":%.1f",
         okc, okc / el, err, n2, q(&lat, .5), q(&lat, .9), q(&lat, .99), q(&lat, 1));
  if (stream)
    printf(",\"chunks\":%llu,\"cps\":%.1f,\"ttft50\":%.1f,\"ttft99\":%.1f,\"ch50\":%.1f,\"ch99\":%.1f,"
           "\"chmax\":%.1f,\"open_max\":%d,\"open\":%d,\"sdone\":%llu",
           chunks, chunks / el, q(&ttft, .5), q(&ttft, .99), q(&chl, .5), q(&chl, .99), q(&chl, 1), open_max,
           open_now, sdone);
  printf(",\"tot\":%llu,\"totch\":%llu", sdone, allchunks);
  printf(",\"unsent\":%zu,\"secs\":%.2f,\"mb\":%.1f}\n", queue.n - qh, el, bytes / 1e6);
  return 0;
}
