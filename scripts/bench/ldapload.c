/* A load generator for LDAP: one thread, epoll, TCP or TLS.
 *
 * Every connection binds once and then keeps `depth` requests in flight until the time is over. With -y (cycle) every
 * request has a connection of its own: connect, bind, ask, unbind. Requests come from a file, ready but for the message
 * ID: each is a length of four octets (big endian) and an encoded protocolOp; the first one is the bind. They are used
 * one after the other over all connections. An answer counts if it ends in success and has at least -m octets.
 *
 * Prints one JSON object: answers, seconds, octets, errors, and the median and 99th percentile of the time to answer.
 *
 *   ldapload -p port -f requests [-c connections] [-d depth] [-t seconds] [-w warm-up seconds] [-m octets]
 *            [-i idle connections] [-T] [-y]
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { MAX_DEPTH = 1024, HEAD = 32, READ_BYTES = 1 << 20, EVENTS = 256, OPENING = 64 };
enum { BIND_RESPONSE = 0x61, ENTRY = 0x64, DONE = 0x65 };

typedef struct { uint32_t size; uint8_t *octets; } Request;
typedef struct { double asked; uint64_t octets; } Pending;
typedef enum { CLOSED, CONNECTING, HANDSHAKE, BINDING, ASKING, IDLE } State;

typedef struct {
    int fd;
    SSL *ssl;
    State state;
    int is_idle;
    uint32_t next_id;
    Pending *pending; /* by message ID modulo MAX_DEPTH */
    uint8_t *out;
    size_t out_size, out_sent, out_room;
    uint8_t head[HEAD]; /* the beginning of the message that is being received */
    size_t head_size, message_size, skip;
    double began; /* of a cycle */
} Connection;

static struct { int port, connections, depth, idle, tls, cycle; double seconds, warm_up; uint64_t min_octets; } options =
    {.port = 389, .connections = 1, .depth = 1, .seconds = 3, .warm_up = 0.5};
static Request *requests; /* the first is the bind */
static size_t request_count, next_request = 1;
static struct { uint64_t answers, octets, errors; double *times; size_t room; } seen;
static int is_measuring, poller;
static SSL_CTX *tls;
static uint8_t *buffer;

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static void fail(const char *what) {
    fprintf(stderr, "ldapload: %s\n", what);
    exit(1);
}

static void *room_for(void *old, size_t size) {
    void *made = realloc(old, size);
    if (!made) fail("out of memory");
    return made;
}

static void read_requests(const char *path) {
    FILE *file = fopen(path, "rb");
    uint8_t length[4];
    size_t room = 0;
    if (!file) fail("the file of requests cannot be read");
    while (fread(length, 1, sizeof length, file) == sizeof length) {
        Request one = {.size = (uint32_t)length[0] << 24 | (uint32_t)length[1] << 16 | (uint32_t)length[2] << 8 | length[3]};
        one.octets = room_for(NULL, one.size);
        if (fread(one.octets, 1, one.size, file) != one.size) fail("the file of requests is cut off");
        if (request_count == room) requests = room_for(requests, (room = room * 2 + 16) * sizeof *requests);
        requests[request_count++] = one;
    }
    fclose(file);
    if (request_count < 2) fail("the file of requests needs a bind and a request");
}

/* ---------------------------------------------------------------- sending */

static void watch(Connection *c, uint32_t events) {
    struct epoll_event event = {.events = events, .data.ptr = c};
    if (epoll_ctl(poller, EPOLL_CTL_MOD, c->fd, &event)) fail("epoll_ctl");
}

static void close_connection(Connection *c) {
    if (c->ssl) SSL_free(c->ssl);
    close(c->fd);
    c->ssl = NULL;
    c->fd = -1;
    c->state = CLOSED;
}

static void lost(Connection *c) {
    if (is_measuring) seen.errors++;
    close_connection(c);
}

static void flush(Connection *c) {
    while (c->out_sent < c->out_size) {
        size_t rest = c->out_size - c->out_sent;
        ssize_t sent = c->ssl ? SSL_write(c->ssl, c->out + c->out_sent, (int)rest)
                              : send(c->fd, c->out + c->out_sent, rest, MSG_NOSIGNAL);
        if (sent > 0) {
            c->out_sent += (size_t)sent;
            continue;
        }
        if (c->ssl ? SSL_get_error(c->ssl, (int)sent) == SSL_ERROR_WANT_WRITE : errno == EAGAIN) {
            watch(c, EPOLLIN | EPOLLOUT);
            return;
        }
        lost(c);
        return;
    }
    if (c->out_size) c->out_size = c->out_sent = 0;
}

static size_t put_length(uint8_t *at, size_t length) {
    if (length < 0x80) return at[0] = (uint8_t)length, 1;
    if (length < 0x100) return at[0] = 0x81, at[1] = (uint8_t)length, 2;
    return at[0] = 0x82, at[1] = (uint8_t)(length >> 8), at[2] = (uint8_t)length, 3;
}

/* Put a message into the output buffer; `flush` sends it. */
static void ask(Connection *c, const uint8_t *operation, size_t size) {
    uint32_t id = c->next_id++;
    uint8_t id_size = id < 0x80 ? 1 : id < 0x8000 ? 2 : id < 0x800000 ? 3 : 4, *at;
    if (c->out_room < c->out_size + size + 16) c->out = room_for(c->out, c->out_room = c->out_size + size + 65536);
    at = c->out + c->out_size;
    *at++ = 0x30;
    at += put_length(at, 2u + id_size + size);
    *at++ = 0x02;
    *at++ = id_size;
    for (int shift = 8 * (id_size - 1); shift >= 0; shift -= 8) *at++ = (uint8_t)(id >> shift);
    memcpy(at, operation, size);
    c->out_size = (size_t)(at - c->out) + size;
    c->pending[id % MAX_DEPTH] = (Pending){.asked = now()};
}

static void ask_next(Connection *c) {
    Request *one = &requests[next_request];
    if (++next_request == request_count) next_request = 1;
    ask(c, one->octets, one->size);
}

static void open_connection(Connection *c) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)options.port)};
    int yes = 1;
    struct epoll_event event = {.events = EPOLLOUT, .data.ptr = c};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (c->fd < 0) fail("no more sockets");
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    c->state = CONNECTING;
    c->next_id = 1;
    c->out_size = c->out_sent = c->head_size = c->skip = 0;
    c->began = now();
    if (connect(c->fd, (struct sockaddr *)&address, sizeof address) && errno != EINPROGRESS) fail("connect");
    epoll_ctl(poller, EPOLL_CTL_ADD, c->fd, &event);
}

static void bind_connection(Connection *c) {
    c->state = BINDING;
    watch(c, EPOLLIN);
    ask(c, requests[0].octets, requests[0].size);
    flush(c);
}

static void shake_hands(Connection *c) {
    int done = SSL_do_handshake(c->ssl), error;
    if (done == 1) {
        bind_connection(c);
        return;
    }
    error = SSL_get_error(c->ssl, done);
    if (error == SSL_ERROR_WANT_READ) watch(c, EPOLLIN);
    else if (error == SSL_ERROR_WANT_WRITE) watch(c, EPOLLOUT);
    else lost(c);
}

static void connected(Connection *c) {
    int error = 0;
    socklen_t size = sizeof error;
    getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &size);
    if (error) {
        lost(c);
    } else if (options.tls) {
        c->state = HANDSHAKE;
        c->ssl = SSL_new(tls);
        SSL_set_fd(c->ssl, c->fd);
        SSL_set_connect_state(c->ssl);
        shake_hands(c);
    } else {
        bind_connection(c);
    }
}

/* ---------------------------------------------------------------- receiving */

static void note(double seconds) {
    if (seen.answers == seen.room) seen.times = room_for(seen.times, (seen.room = seen.room * 2 + 65536) * sizeof(double));
    seen.times[seen.answers++] = seconds;
}

static void end_cycle(Connection *c) {
    static const uint8_t unbind[] = {0x42, 0};
    ask(c, unbind, sizeof unbind);
    flush(c);
    if (c->state == CLOSED) return;
    if (c->ssl) SSL_shutdown(c->ssl);
    if (is_measuring) note(now() - c->began);
    close_connection(c);
}

/* A message has ended; c->head has its beginning, up to and with the result code. */
static void received(Connection *c) {
    const uint8_t *at = c->head + 2 + (c->head[1] & 0x80 ? c->head[1] & 0x7f : 0);
    uint32_t id = 0;
    uint8_t operation;
    Pending *pending;
    for (uint8_t i = 0; i < at[1]; i++) id = id << 8 | at[2 + i];
    at += 2 + at[1];
    operation = *at++;
    at += 1 + (*at & 0x80 ? *at & 0x7f : 0);
    pending = &c->pending[id % MAX_DEPTH];
    pending->octets += c->message_size;
    if (operation == ENTRY) return;
    if (operation != BIND_RESPONSE && operation != DONE) fail("an answer that was not asked for");
    if (c->state == BINDING) {
        if (at[2]) fail("the bind was refused");
        c->state = c->is_idle ? IDLE : ASKING;
        for (int i = 0; c->state == ASKING && i < (options.cycle ? 1 : options.depth); i++) ask_next(c);
        return;
    }
    if (at[2] || pending->octets < options.min_octets) {
        if (is_measuring) seen.errors++;
    } else if (is_measuring && !options.cycle) {
        note(now() - pending->asked);
    }
    if (is_measuring) seen.octets += pending->octets;
    if (options.cycle) end_cycle(c);
    else ask_next(c);
}

/* How many octets of the head are needed before more can be told; 0: all that is ever needed is there. */
static size_t head_needs(Connection *c) {
    size_t lengths, length = 0, whole;
    if (c->head_size < 2) return 2;
    lengths = c->head[1] & 0x80 ? c->head[1] & 0x7f : 0;
    if (c->head_size < 2 + lengths) return 2 + lengths;
    if (!lengths) length = c->head[1];
    for (size_t i = 0; i < lengths; i++) length = length << 8 | c->head[2 + i];
    c->message_size = 2 + lengths + length;
    whole = c->message_size < HEAD ? c->message_size : HEAD;
    return c->head_size < whole ? whole : 0;
}

static void take(Connection *c, const uint8_t *octets, size_t size) {
    while (size && c->state != CLOSED) {
        size_t needed = c->skip ? 0 : head_needs(c), part;
        if (needed) {
            part = needed - c->head_size < size ? needed - c->head_size : size;
            memcpy(c->head + c->head_size, octets, part);
            c->head_size += part;
            if (head_needs(c)) goto next;
            c->skip = c->message_size - c->head_size;
        } else {
            part = c->skip < size ? c->skip : size;
            c->skip -= part;
        }
        if (!c->skip) {
            c->head_size = 0;
            received(c);
        }
    next:
        octets += part;
        size -= part;
    }
}

static void receive(Connection *c) {
    for (int turn = 0; turn < 8 && c->state != CLOSED; turn++) {
        ssize_t size;
        if (c->ssl) {
            size = SSL_read(c->ssl, buffer, READ_BYTES);
            if (size <= 0 && SSL_get_error(c->ssl, (int)size) == SSL_ERROR_WANT_READ) break;
        } else if (c->skip > 65536) { /* in the middle of a value: the kernel drops it without a copy */
            size = recv(c->fd, NULL, c->skip - 1 < READ_BYTES ? c->skip - 1 : READ_BYTES, MSG_TRUNC);
            if (size > 0) c->skip -= (size_t)size;
            if (size > 0) continue;
        } else {
            size = recv(c->fd, buffer, READ_BYTES, 0);
        }
        if (size < 0 && !c->ssl && errno == EAGAIN) break;
        if (size <= 0) {
            lost(c);
            return;
        }
        take(c, buffer, (size_t)size);
        if (!c->ssl && size < READ_BYTES) break;
    }
    if (c->state != CLOSED && c->out_size) flush(c);
}

/* ---------------------------------------------------------------- run */

static void serve(Connection *c, uint32_t events) {
    if (c->state == CLOSED) return;
    if (c->state == CONNECTING) {
        connected(c);
    } else if (c->state == HANDSHAKE) {
        shake_hands(c);
    } else {
        if (events & EPOLLOUT) {
            watch(c, EPOLLIN);
            flush(c);
        }
        if (c->state != CLOSED && events & ~(uint32_t)EPOLLOUT) receive(c);
    }
}

static void run(Connection *all, int count) {
    struct epoll_event events[EVENTS];
    int opened = 0;
    double start = 0, end = 0, hurry = now() + options.seconds + options.warm_up + 30;
    for (;;) {
        int opening = 0, ready = 0, got;
        double time = now();
        if (time > hurry) fail("it takes too long");
        for (int i = 0; !start && i < opened; i++) {
            opening += all[i].state < ASKING && all[i].state != CLOSED;
            ready += all[i].state >= ASKING || (options.cycle && !all[i].is_idle);
        }
        while (!start && opened < count && opening < OPENING) open_connection(&all[opened++]), opening++;
        if (!start && ready == count) start = time + options.warm_up;
        if (start && !is_measuring && time >= start) is_measuring = 1, start = time, end = time + options.seconds;
        if (is_measuring && time >= end) {
            printf("{\"seconds\": %.3f, ", time - start);
            return;
        }
        got = epoll_wait(poller, events, EVENTS, 10);
        for (int i = 0; i < got; i++) {
            Connection *c = events[i].data.ptr;
            serve(c, events[i].events);
            if (c->state == CLOSED && options.cycle && !c->is_idle) open_connection(c);
        }
    }
}

static int compare(const void *one, const void *other) {
    double a = *(const double *)one, b = *(const double *)other;
    return (a > b) - (a < b);
}

static double percentile(double part) {
    return seen.answers ? seen.times[(size_t)((double)(seen.answers - 1) * part)] * 1e6 : 0;
}

int main(int argc, char **argv) {
    const char *path = NULL;
    int option, count;
    Connection *all;
    while ((option = getopt(argc, argv, "p:f:c:d:t:w:m:i:Ty")) != -1) switch (option) {
        case 'p': options.port = atoi(optarg); break;
        case 'f': path = optarg; break;
        case 'c': options.connections = atoi(optarg); break;
        case 'd': options.depth = atoi(optarg); break;
        case 't': options.seconds = atof(optarg); break;
        case 'w': options.warm_up = atof(optarg); break;
        case 'm': options.min_octets = strtoull(optarg, NULL, 10); break;
        case 'i': options.idle = atoi(optarg); break;
        case 'T': options.tls = 1; break;
        case 'y': options.cycle = 1; break;
        default: return 2;
    }
    if (!path || options.depth < 1 || options.depth > MAX_DEPTH / 2) fail("-f is needed; -d is 1 to 512");
    signal(SIGPIPE, SIG_IGN);
    read_requests(path);
    buffer = room_for(NULL, READ_BYTES);
    poller = epoll_create1(0);
    if (options.tls) {
        tls = SSL_CTX_new(TLS_client_method());
        SSL_CTX_set_mode(tls, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
        SSL_CTX_set_session_cache_mode(tls, SSL_SESS_CACHE_OFF);
    }
    count = options.connections + options.idle;
    all = calloc((size_t)count, sizeof *all);
    if (!all) fail("out of memory");
    for (int i = 0; i < count; i++) {
        all[i].is_idle = i < options.idle;
        all[i].pending = room_for(NULL, MAX_DEPTH * sizeof(Pending));
    }
    run(all, count);
    qsort(seen.times, seen.answers, sizeof(double), compare);
    printf("\"answers\": %lu, \"octets\": %lu, \"errors\": %lu, \"p50_us\": %.0f, \"p99_us\": %.0f}\n", seen.answers,
           seen.octets, seen.errors, percentile(0.5), percentile(0.99));
    return 0;
}
