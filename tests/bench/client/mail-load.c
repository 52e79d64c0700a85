/* A mail client for measuring: it fetches by POP3 (RFC 1939) from any server, and holds idle connections open.
 *
 * It knows nothing of the servers that it measures, and shares no code with any of them. It is C, so that on a small
 * machine the server is measured and not the client.
 *
 *   mail-load pop3 HOST PORT tls|clear USER PASSWORD COMMAND COUNT ROUNDS WINDOW
 *     One session: log in, STAT, then COMMAND (RETR, UIDL, LIST or STAT) for the first COUNT messages, ROUNDS times, at
 *     most WINDOW commands on their way at once, then QUIT. UIDL and LIST are asked once, for the whole maildrop. COUNT 0:
 *     all messages.
 *     Prints one line of JSON: seconds until logged in and until STAT was answered, both from connect; then seconds,
 *     messages and octets of the commands.
 *   mail-load idle HOST PORT smtp|pop3 COUNT NAME DOMAIN PASSWORD
 *     COUNT connections, each after EHLO (smtp) or logged in as NAMEn@DOMAIN (pop3), in clear. Prints "ready" and keeps
 *     them until its standard input ends.
 *   mail-load evict DIRECTORY
 *     Puts what the files below DIRECTORY hold out of the system's memory. What is not on the disk yet stays in it.
 *
 * The certificate is not verified: the servers have one that they made themselves. */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { INPUT_SIZE = 256 * 1024, LINE_SIZE = 2048, MAX_WINDOW = 1000 };

/* A session that makes no progress for so long has failed. */
static const struct timeval PATIENCE = {.tv_sec = 120};

struct connection {
  int socket;
  SSL *tls;
  size_t begin, end;
  unsigned char input[INPUT_SIZE];
};

static void die(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  fputs("mail-load: ", stderr);
  vfprintf(stderr, format, arguments);
  fputc('\n', stderr);
  va_end(arguments);
  exit(1);
}

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static int dial(const char *host, const char *port) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port))};
  int one = 1, made = socket(AF_INET, SOCK_STREAM, 0);
  if (made < 0) die("socket: %s", strerror(errno));
  if (inet_pton(AF_INET, host, &address.sin_addr) != 1) die("%s is no IPv4 address", host);
  setsockopt(made, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  setsockopt(made, SOL_SOCKET, SO_RCVTIMEO, &PATIENCE, sizeof PATIENCE);
  setsockopt(made, SOL_SOCKET, SO_SNDTIMEO, &PATIENCE, sizeof PATIENCE);
  if (connect(made, (struct sockaddr *)&address, sizeof address) != 0) die("connect %s:%s: %s", host, port, strerror(errno));
  return made;
}

static void put(struct connection *to, const char *bytes, size_t length) {
  while (length > 0) {
    long sent = to->tls ? SSL_write(to->tls, bytes, (int)length) : write(to->socket, bytes, length);
    if (sent <= 0) die("sending failed: %s", strerror(errno));
    bytes += sent;
    length -= (size_t)sent;
  }
}

/* Reads more. What is there stays; there must be room. */
static void fill(struct connection *from) {
  if (from->begin == from->end) from->begin = from->end = 0;
  if (from->end == INPUT_SIZE) {
    memmove(from->input, from->input + from->begin, from->end - from->begin);
    from->end -= from->begin;
    from->begin = 0;
    if (from->end == INPUT_SIZE) die("a reply of more than %d octets without a line's end", INPUT_SIZE);
  }
  unsigned char *room = from->input + from->end;
  size_t size = INPUT_SIZE - from->end;
  long got = from->tls ? SSL_read(from->tls, room, (int)size) : read(from->socket, room, size);
  if (got <= 0) die("the server closed the connection, or was silent for too long: %s", strerror(errno));
  from->end += (size_t)got;
}

/* The next line without its CRLF; valid until the next call. */
static char *line(struct connection *from) {
  size_t searched = 0;
  for (;;) {
    unsigned char *start = from->input + from->begin;
    unsigned char *found = memchr(start + searched, '\n', from->end - from->begin - searched);
    if (found) {
      from->begin += (size_t)(found - start) + 1;
      *found = 0;
      if (found > start && found[-1] == '\r') found[-1] = 0;
      return (char *)start;
    }
    searched = from->end - from->begin;
    fill(from);
  }
}

static char *expect_ok(struct connection *from, const char *what) {
  char *reply = line(from);
  if (strncmp(reply, "+OK", 3) != 0) die("%s was answered with: %s", what, reply);
  return reply;
}

/* The text after a multi-line reply's first line, to the line that is a dot alone; yields its octets. */
static unsigned long long skip_text(struct connection *from) {
  /* What the text ends with, whose first CRLF ends the reply's first line where the text is empty. */
  static const char final[] = "\r\n.\r\n";
  unsigned long long octets = 0;
  size_t matched = 2;
  for (;;) {
    unsigned char *at = from->input + from->begin, *end = from->input + from->end;
    while (at < end) {
      if (matched == 0) {
        at = memchr(at, '\r', (size_t)(end - at));
        if (!at) {
          at = end;
          break;
        }
      }
      if (*at == (unsigned char)final[matched]) {
        matched++;
        at++;
        if (matched == 5) {
          octets += (unsigned long long)(at - (from->input + from->begin));
          from->begin = (size_t)(at - from->input);
          return octets - 3;
        }
      } else if (*at == '\r') {
        matched = 1;
        at++;
      } else {
        matched = 0;
        at++;
      }
    }
    octets += from->end - from->begin;
    from->begin = from->end = 0;
    fill(from);
  }
}

static void command(struct connection *to, const char *format, ...) {
  char text[LINE_SIZE];
  va_list arguments;
  va_start(arguments, format);
  int length = vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  if (length < 0 || length >= LINE_SIZE) die("a command is too long");
  put(to, text, (size_t)length);
}

static void start_tls(struct connection *on) {
  command(on, "STLS\r\n");
  expect_ok(on, "STLS");
  SSL_CTX *context = SSL_CTX_new(TLS_client_method());
  on->tls = SSL_new(context);
  SSL_set_fd(on->tls, on->socket);
  if (SSL_connect(on->tls) != 1) die("TLS handshake failed: %s", ERR_error_string(ERR_get_error(), NULL));
}

static unsigned long long retrieve(struct connection *on, long count, long window) {
  unsigned long long octets = 0;
  long asked = 0;
  for (long done = 0; done < count; done++) {
    if (asked == done) {
      /* A window is written at once, as a client that pipelines does. */
      char text[MAX_WINDOW * 24];
      size_t length = 0;
      for (; asked < count && asked < done + window; asked++) {
        length += (size_t)snprintf(text + length, sizeof text - length, "RETR %ld\r\n", asked + 1);
      }
      put(on, text, length);
    }
    expect_ok(on, "RETR");
    octets += skip_text(on);
  }
  return octets;
}

static int pop3(char **argument) {
  const char *verb = argument[6];
  long count = atol(argument[7]), rounds = atol(argument[8]), window = atol(argument[9]), there = 0;
  struct connection *on = calloc(1, sizeof *on);
  if (window < 1 || window > MAX_WINDOW) die("WINDOW is 1 to %d", MAX_WINDOW);
  double begun = now();
  on->socket = dial(argument[1], argument[2]);
  expect_ok(on, "connecting");
  if (strcmp(argument[3], "tls") == 0) start_tls(on);
  command(on, "USER %s\r\n", argument[4]);
  expect_ok(on, "USER");
  command(on, "PASS %s\r\n", argument[5]);
  expect_ok(on, "PASS");
  double logged_in = now();
  command(on, "STAT\r\n");
  if (sscanf(expect_ok(on, "STAT"), "+OK %ld", &there) != 1) die("STAT gave no number");
  double counted = now();
  if (count == 0) count = there;
  if (count > there) die("there are %ld messages instead of %ld", there, count);
  unsigned long long octets = 0;
  if (strcmp(verb, "RETR") == 0) {
    for (long round = 0; round < rounds; round++) octets += retrieve(on, count, window);
    count *= rounds;
  } else if (strcmp(verb, "STAT") != 0) {
    command(on, "%s\r\n", verb);
    expect_ok(on, verb);
    octets = skip_text(on);
  }
  double done = now();
  command(on, "QUIT\r\n");
  expect_ok(on, "QUIT");
  printf("{\"login\":%.6f,\"stat\":%.6f,\"seconds\":%.6f,\"messages\":%ld,\"octets\":%llu}\n", logged_in - begun,
         counted - begun, done - counted, count, octets);
  return 0;
}

/* A reply of SMTP: its last line has a space after the code. */
static void expect_code(struct connection *from, char code) {
  char *reply;
  do reply = line(from);
  while (reply[0] == code && reply[3] == '-');
  if (reply[0] != code) die("the server answered: %s", reply);
}

static int idle(char **argument) {
  int is_pop3 = strcmp(argument[3], "pop3") == 0;
  long count = atol(argument[4]);
  char wait[64];
  /* One connection at a time is talked on: its descriptor alone stays. */
  struct connection *on = calloc(1, sizeof *on);
  for (long number = 0; number < count; number++) {
    on->begin = on->end = 0;
    on->socket = dial(argument[1], argument[2]);
    if (is_pop3) {
      expect_ok(on, "connecting");
      command(on, "USER %s%ld@%s\r\n", argument[5], number, argument[6]);
      expect_ok(on, "USER");
      command(on, "PASS %s\r\n", argument[7]);
      expect_ok(on, "PASS");
    } else {
      expect_code(on, '2');
      command(on, "EHLO client.test\r\n");
      expect_code(on, '2');
    }
  }
  puts("ready");
  fflush(stdout);
  while (read(0, wait, sizeof wait) > 0) {
  }
  return 0;
}

static int evict_file(const char *path, const struct stat *status, int kind, struct FTW *place) {
  (void)place;
  if (kind == FTW_F && S_ISREG(status->st_mode)) {
    int file = open(path, O_RDONLY);
    /* It may have been deleted since. */
    if (file >= 0) {
      posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED);
      close(file);
    }
  }
  return 0;
}

int main(int count, char **arguments) {
  signal(SIGPIPE, SIG_IGN);
  if (count == 11 && strcmp(arguments[1], "pop3") == 0) return pop3(arguments + 1);
  if (count == 9 && strcmp(arguments[1], "idle") == 0) return idle(arguments + 1);
  if (count == 3 && strcmp(arguments[1], "evict") == 0) return nftw(arguments[2], evict_file, 64, FTW_PHYS) != 0;
  die("usage: mail-load pop3 HOST PORT tls|clear USER PASSWORD COMMAND COUNT ROUNDS WINDOW\n"
      "       mail-load idle HOST PORT smtp|pop3 COUNT NAME DOMAIN PASSWORD\n"
      "       mail-load evict DIRECTORY");
}
