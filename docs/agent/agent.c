/* A device agent for drivers/protocol/PROTOCOL.md (messages) over its section 14 (serial line), in one file of C99.
 *
 * It needs a stream of bytes, a clock and a number that differs at every start: the four functions under "The port".
 * Replace them with your UART and timer, replace process_raw() with your ISP and the table PARAMETERS with its
 * registers, and the rest can stay. No heap, no thread, no floating point beyond reading the RAW's metadata.
 *
 * Static memory with the sizes below: payload 512 KiB, picture 1 MiB, registers 16 KiB, headers 20 KiB, link 6 KiB.
 */
#define _POSIX_C_SOURCE 200809L

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_PIXELS (512u * 512u)              /* of the largest RAW */
#define MAX_PAYLOAD (2u * MAX_PIXELS)         /* its bytes: 16 bits a pixel */
#define MAX_PICTURE (4u * MAX_PIXELS + 1024u) /* PNG without compression: 3 bytes a pixel, 1 a row, and its frame */
#define MAX_REQUEST 16384u                    /* header of a request; longer ones are refused */
#define MAX_ANSWER 4096u                      /* header of an answer; INFO is the longest */
#define MAX_REGISTERS 1024u                   /* pairs in one request */
#define MAX_METADATA 4096u
#define MAX_TEXT 160u
#define MAX_IN_FLIGHT 4 /* requests that the client may have on their way: the line keeps them, not this device */

#define WINDOW 4u  /* chunks that are kept out of order */
#define CHUNK 256u /* bytes of a message in one of them; at most 1024 */
#define RESEND_US 250000u
#define MAX_RESEND_US 2000000u

static const char MODEL[] = "reference-agent", FIRMWARE[] = "1.0.0", SERIAL_NUMBER[] = "c99";

/* ---- The port: replace these four ----------------------------------------------------------------------------- */

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

static int port_in = 0, port_out = 1;

/* Up to `size` bytes, as soon as there are any; 0 when none came within `wait_us`; below 0 when the line is gone. */
static int port_read(uint8_t *data, int size, uint32_t wait_us)
{
    struct pollfd ready = {port_in, POLLIN, 0};
    ssize_t got;

    if (poll(&ready, 1, (int)((wait_us + 999) / 1000)) <= 0)
        return 0;
    got = read(port_in, data, (size_t)size);
    if (got < 0)
        return errno == EAGAIN || errno == EINTR ? 0 : -1;
    return got == 0 ? -1 : (int)got;
}

/* Write `size` bytes. A line that does not drain for a second loses them: the link sends them again. */
static void port_write(const uint8_t *data, size_t size)
{
    struct pollfd ready = {port_out, POLLOUT, 0};

    while (size) {
        ssize_t put;
        if (poll(&ready, 1, 1000) <= 0)
            return;
        put = write(port_out, data, size);
        if (put < 0 && errno != EAGAIN && errno != EINTR)
            return;
        if (put > 0) {
            data += put;
            size -= (size_t)put;
        }
    }
}

/* Microseconds of a clock that only goes forward. */
static uint64_t clock_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000u + (uint64_t)now.tv_nsec / 1000u;
}

/* A number that differs after every start: random, or counted in flash. */
static uint64_t boot_number(void)
{
    uint64_t number = (uint64_t)time(NULL) << 24 ^ (uint64_t)getpid() << 48 ^ clock_us();
    FILE *random = fopen("/dev/urandom", "rb");
    if (random) {
        uint64_t drawn = 0;
        if (fread(&drawn, sizeof drawn, 1, random) == 1)
            number ^= drawn;
        fclose(random);
    }
    return number;
}

/* ---- SHA-256, CRC-32 ------------------------------------------------------------------------------------------ */

typedef struct {
    uint32_t state[8];
    uint64_t bytes;
    uint8_t block[64];
} sha256_t;

static uint32_t rotate(uint32_t x, int n) { return x >> n | x << (32 - n); }

static void sha256_block(sha256_t *s, const uint8_t *p)
{
    static const uint32_t k[64] = {
        0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
        0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
        0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
        0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
        0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
        0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
        0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
        0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};
    uint32_t w[64], v[8];
    int i;

    for (i = 0; i < 16; i++)
        w[i] = (uint32_t)p[4 * i] << 24 | (uint32_t)p[4 * i + 1] << 16 | (uint32_t)p[4 * i + 2] << 8 | p[4 * i + 3];
    for (; i < 64; i++) {
        uint32_t a = w[i - 15], b = w[i - 2];
        w[i] = w[i - 16] + (rotate(a, 7) ^ rotate(a, 18) ^ a >> 3) + w[i - 7] + (rotate(b, 17) ^ rotate(b, 19) ^ b >> 10);
    }
    memcpy(v, s->state, sizeof v);
    for (i = 0; i < 64; i++) {
        uint32_t e = v[4], a = v[0];
        uint32_t one = v[7] + (rotate(e, 6) ^ rotate(e, 11) ^ rotate(e, 25)) + ((e & v[5]) ^ (~e & v[6])) + k[i] + w[i];
        uint32_t two = (rotate(a, 2) ^ rotate(a, 13) ^ rotate(a, 22)) + ((a & v[1]) ^ (a & v[2]) ^ (v[1] & v[2]));
        memmove(v + 1, v, 7 * sizeof *v);
        v[4] += one;
        v[0] = one + two;
    }
    for (i = 0; i < 8; i++)
        s->state[i] += v[i];
}

static void sha256_begin(sha256_t *s)
{
    static const uint32_t start[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                      0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    memcpy(s->state, start, sizeof start);
    s->bytes = 0;
}

static void sha256_add(sha256_t *s, const void *data, size_t size)
{
    const uint8_t *p = data;
    while (size) {
        size_t used = s->bytes % 64, n = 64 - used < size ? 64 - used : size;
        memcpy(s->block + used, p, n);
        s->bytes += n;
        p += n;
        size -= n;
        if (used + n == 64)
            sha256_block(s, s->block);
    }
}

static void sha256_end(sha256_t *s, uint8_t digest[32])
{
    uint64_t bits = s->bytes * 8;
    uint8_t length[8];
    int i;

    sha256_add(s, "\x80", 1);
    while (s->bytes % 64 != 56)
        sha256_add(s, "", 1);
    for (i = 0; i < 8; i++)
        length[i] = (uint8_t)(bits >> (56 - 8 * i));
    sha256_add(s, length, 8);
    for (i = 0; i < 32; i++)
        digest[i] = (uint8_t)(s->state[i / 4] >> (24 - 8 * (i % 4)));
}

/* Goes on from `crc`, the value of the bytes before; 0 for none. */
static uint32_t crc32(uint32_t crc, const uint8_t *data, size_t size)
{
    static const uint32_t nibble[16] = {0x00000000, 0x1db71064, 0x3b6e20c8, 0x26d930ac, 0x76dc4190, 0x6b6b51f4,
                                        0x4db26158, 0x5005713c, 0xedb88320, 0xf00f9344, 0xd6d6a3e8, 0xcb61b38c,
                                        0x9b64c2b0, 0x86d3d2d4, 0xa00ae278, 0xbdbdf21c};
    crc = ~crc;
    while (size--) {
        crc ^= *data++;
        crc = crc >> 4 ^ nibble[crc & 15];
        crc = crc >> 4 ^ nibble[crc & 15];
    }
    return ~crc;
}

/* ---- Parameters and registers (sections 5, 6 and 8) ------------------------------------------------------------ */

typedef enum { CONTINUOUS, INTEGER, CHOICE, BOOLEAN } kind_t;

typedef struct {
    const char *name, *block;
    kind_t kind;
    int32_t low, high, initial; /* codes */
    const char *choices[4];     /* CHOICE only */
    const char *unit, *role;
    uint32_t address;
    uint8_t width; /* bits of the register; it is signed when low is negative */
} parameter_t;

#define STEP 256 /* codes to one unit of a CONTINUOUS parameter */

enum { BLACK_OFFSET, RED_GAIN, BLUE_GAIN, EXPOSURE, CURVE, MONOCHROME, COUNT };

static const parameter_t PARAMETERS[COUNT] = {
    {"black_offset", "black_level", INTEGER, -64, 64, 0, {0}, "DN", NULL, 0x10, 16},
    {"red_gain", "white_balance", CONTINUOUS, STEP / 4, 8 * STEP, 3 * STEP / 2, {0}, "", "red_gain", 0x12, 16},
    {"blue_gain", "white_balance", CONTINUOUS, STEP / 4, 8 * STEP, 3 * STEP / 2, {0}, "", "blue_gain", 0x14, 16},
    {"exposure", "gain", CONTINUOUS, STEP / 4, 8 * STEP, STEP, {0}, "", NULL, 0x16, 16},
    {"curve", "tone", CHOICE, 0, 1, 1, {"linear", "square_root"}, "", NULL, 0x18, 8},
    {"monochrome", "colour", BOOLEAN, 0, 1, 0, {0}, "", NULL, 0x19, 8},
};

static int32_t shadow[COUNT], active[COUNT];
static uint64_t frame_count;
static char boot_id[17];

static int at_address(uint64_t address)
{
    int i;
    for (i = 0; i < COUNT; i++)
        if (PARAMETERS[i].address == address)
            return i;
    return -1;
}

static void parameters_hash(const int32_t *bank, uint8_t digest[32])
{
    const char *last = "";
    sha256_t s;
    int n, i;

    sha256_begin(&s);
    for (n = 0; n < COUNT; n++) { /* the lines in the order of their names, by byte value */
        int best = -1;
        char line[96];
        for (i = 0; i < COUNT; i++)
            if (strcmp(PARAMETERS[i].name, last) > 0 && (best < 0 || strcmp(PARAMETERS[i].name, PARAMETERS[best].name) < 0))
                best = i;
        last = PARAMETERS[best].name;
        sha256_add(&s, line, (size_t)snprintf(line, sizeof line, "%s=%ld\n", last, (long)bank[best]));
    }
    sha256_end(&s, digest);
}

/* ---- The RAW's metadata (section 7): JSON of nine keys ---------------------------------------------------------- */

typedef struct {
    uint32_t width, height;
    uint8_t cfa[4]; /* 0 red, 1 green, 2 blue, of the 2x2 pixels in reading order */
    int32_t black[4], white;
} raw_t;

typedef struct {
    const char *at, *end;
} json_t;

static void json_space(json_t *j)
{
    while (j->at < j->end && strchr(" \t\r\n", *j->at) && *j->at)
        j->at++;
}

static int json_is(json_t *j, const char *word)
{
    size_t n = strlen(word);
    json_space(j);
    if ((size_t)(j->end - j->at) < n || memcmp(j->at, word, n))
        return 0;
    j->at += n;
    return 1;
}

/* A string of at most size - 1 plain characters. */
static int json_string(json_t *j, char *text, size_t size)
{
    size_t n = 0;
    if (!json_is(j, "\""))
        return 0;
    for (; j->at < j->end && *j->at != '"'; j->at++) {
        if (*j->at < ' ' || *j->at > '~' || *j->at == '\\' || n + 1 >= size)
            return 0;
        text[n++] = *j->at;
    }
    text[n] = 0;
    return json_is(j, "\"");
}

static const char *json_digits(const char *p, const char *end)
{
    while (p < end && *p >= '0' && *p <= '9')
        p++;
    return p;
}

/* A number as JSON writes it, below 1e30 in size; *whole says that it has neither fraction nor exponent. */
static int json_number(json_t *j, double *value, int *whole)
{
    const char *p, *digits;
    char text[64];
    size_t n;

    json_space(j);
    p = j->at;
    *whole = 1;
    if (p < j->end && *p == '-')
        p++;
    digits = p;
    p = json_digits(p, j->end);
    if (p == digits || (*digits == '0' && p - digits > 1))
        return 0;
    if (p < j->end && *p == '.') {
        digits = ++p;
        p = json_digits(p, j->end);
        *whole = 0;
        if (p == digits)
            return 0;
    }
    if (p < j->end && (*p == 'e' || *p == 'E')) {
        p++;
        if (p < j->end && (*p == '+' || *p == '-'))
            p++;
        digits = p;
        p = json_digits(p, j->end);
        *whole = 0;
        if (p == digits)
            return 0;
    }
    n = (size_t)(p - j->at);
    if (n >= sizeof text)
        return 0;
    memcpy(text, j->at, n);
    text[n] = 0;
    *value = strtod(text, NULL);
    j->at = p;
    return *value > -1e30 && *value < 1e30;
}

static int json_numbers(json_t *j, double *values, int count)
{
    int i, whole;
    if (!json_is(j, "["))
        return 0;
    for (i = 0; i < count; i++)
        if ((i && !json_is(j, ",")) || !json_number(j, &values[i], &whole))
            return 0;
    return json_is(j, "]");
}

static int json_whole(json_t *j, int32_t low, int32_t high, int32_t *value)
{
    double number;
    int whole;
    if (!json_number(j, &number, &whole) || !whole || number < low || number > high)
        return 0;
    *value = (int32_t)number;
    return 1;
}

/* The value of one key; what this ISP does not need is checked and forgotten. */
static int json_value(json_t *j, int key, raw_t *raw, double black[4])
{
    double values[9];
    int32_t whole;
    char cfa[5];
    int i;

    switch (key) {
    case 0:
    case 1:
        if (!json_whole(j, 2, 32768, &whole) || whole % 2)
            return 0;
        *(key ? &raw->height : &raw->width) = (uint32_t)whole;
        return 1;
    case 2:
        if (!json_string(j, cfa, sizeof cfa))
            return 0;
        if (strcmp(cfa, "RGGB") && strcmp(cfa, "BGGR") && strcmp(cfa, "GRBG") && strcmp(cfa, "GBRG"))
            return 0;
        for (i = 0; i < 4; i++)
            raw->cfa[i] = cfa[i] == 'R' ? 0 : cfa[i] == 'G' ? 1 : 2;
        return 1;
    case 3:
        return json_numbers(j, black, 4);
    case 4:
        return json_whole(j, 1, 65535, &raw->white);
    case 5:
    case 6: {
        int number_is_whole;
        return json_is(j, "null") || (json_number(j, values, &number_is_whole) && values[0] > 0);
    }
    case 7:
        return json_is(j, "null") ||
               (json_numbers(j, values, 3) && values[0] > 0 && values[1] > 0 && values[2] > 0);
    default:
        if (json_is(j, "null"))
            return 1;
        if (!json_is(j, "["))
            return 0;
        for (i = 0; i < 3; i++)
            if ((i && !json_is(j, ",")) || !json_numbers(j, values, 3))
                return 0;
        return json_is(j, "]");
    }
}

static int read_metadata(const uint8_t *data, size_t size, raw_t *raw)
{
    static const char *const keys[9] = {"width", "height",     "cfa",        "black_level",  "white_level",
                                        "iso",   "exposure_s", "as_shot_wb", "colour_matrix"};
    json_t j = {(const char *)data, (const char *)data + size};
    double black[4] = {0, 0, 0, 0};
    unsigned seen = 0;
    int i, n;

    if (!json_is(&j, "{"))
        return 0;
    for (n = 0; n < 9; n++) {
        char name[16];
        if ((n && !json_is(&j, ",")) || !json_string(&j, name, sizeof name) || !json_is(&j, ":"))
            return 0;
        for (i = 0; i < 9 && strcmp(name, keys[i]); i++)
            ;
        if (i == 9 || seen >> i & 1 || !json_value(&j, i, raw, black))
            return 0;
        seen |= 1u << i;
    }
    if (!json_is(&j, "}"))
        return 0;
    json_space(&j);
    if (j.at != j.end)
        return 0;
    for (i = 0; i < 4; i++) {
        if (black[i] < 0 || black[i] >= raw->white)
            return 0;
        raw->black[i] = (int32_t)(black[i] + 0.5);
    }
    return 1;
}

/* ---- The ISP: replace this one ---------------------------------------------------------------------------------- */

static uint8_t payload[MAX_PAYLOAD], picture[MAX_PICTURE];

static uint8_t *put32(uint8_t *p, uint32_t value)
{
    *p++ = (uint8_t)(value >> 24);
    *p++ = (uint8_t)(value >> 16);
    *p++ = (uint8_t)(value >> 8);
    *p++ = (uint8_t)value;
    return p;
}

/* A zlib stream without compression, written as its bytes come: stored blocks of at most 65535 bytes. */
typedef struct {
    uint8_t *at;
    uint32_t left, in_block, a, b;
} stored_t;

static void stored_byte(stored_t *z, uint8_t value)
{
    if (!z->in_block) {
        uint32_t n = z->left < 65535 ? z->left : 65535;
        *z->at++ = n == z->left;
        *z->at++ = (uint8_t)n;
        *z->at++ = (uint8_t)(n >> 8);
        *z->at++ = (uint8_t)~n;
        *z->at++ = (uint8_t)(~n >> 8);
        z->in_block = n;
    }
    *z->at++ = value;
    z->in_block--;
    z->left--;
    z->a = (z->a + value) % 65521;
    z->b = (z->b + z->a) % 65521;
}

static uint32_t root(uint32_t x)
{
    uint32_t y = 0, bit;
    for (bit = 1u << 15; bit; bit >>= 1)
        if ((uint64_t)(y | bit) * (y | bit) <= x)
            y |= bit;
    return y;
}

/* 0..65535 of one pixel: black taken off, gains, curve. */
static uint32_t develop(const raw_t *raw, const int32_t *codes, uint32_t x, uint32_t y)
{
    static const uint32_t full = 65535;
    size_t place = 2 * ((size_t)y * raw->width + x);
    int i = (int)(2 * (y & 1) + (x & 1));
    int32_t black = raw->black[i] + codes[BLACK_OFFSET];
    int64_t range = raw->white > black ? raw->white - black : 1, value = (payload[place] | payload[place + 1] << 8) - black;
    int32_t gain = raw->cfa[i] == 0 ? codes[RED_GAIN] : raw->cfa[i] == 2 ? codes[BLUE_GAIN] : STEP;

    if (value <= 0)
        return 0;
    value = value * gain * codes[EXPOSURE] * full / (range * STEP * STEP);
    if (value > full)
        value = full;
    return codes[CURVE] ? root((uint32_t)value * full) : (uint32_t)value;
}

/* Process payload[] with these codes into picture[]; gives the picture's bytes. Every pixel takes the colours of its
 * 2x2 pixels: the nearest there are. */
static size_t process_raw(const raw_t *raw, const int32_t *codes)
{
    static const uint8_t signature[8] = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n'};
    uint32_t x, y;
    uint8_t *data, *p = picture;
    stored_t z;

    memcpy(p, signature, 8);
    p = put32(p + 8, 13);
    memcpy(p, "IHDR", 4);
    put32(put32(p + 4, raw->width), raw->height);
    memcpy(p + 12, "\x08\x02\0\0\0", 5); /* 8 bits, RGB */
    p = put32(p + 17, crc32(0, p, 17));
    data = p + 4;
    memcpy(data, "IDAT\x78\x01", 6);
    z.at = data + 6;
    z.left = raw->height * (1 + 3 * raw->width);
    z.in_block = z.b = 0;
    z.a = 1;
    for (y = 0; y < raw->height; y++) {
        stored_byte(&z, 0); /* no filter */
        for (x = 0; x < raw->width; x++) {
            uint32_t sum[3] = {0, 0, 0};
            int i;
            for (i = 0; i < 4; i++)
                sum[raw->cfa[i]] += develop(raw, codes, (x & ~1u) + (i & 1), (y & ~1u) + (i >> 1));
            sum[1] /= 2;
            if (codes[MONOCHROME])
                sum[0] = sum[1] = sum[2] = (sum[0] + 2 * sum[1] + sum[2]) / 4;
            for (i = 0; i < 3; i++)
                stored_byte(&z, (uint8_t)(sum[i] * 255 / 65535));
        }
    }
    z.at = put32(z.at, z.b << 16 | z.a);
    put32(p, (uint32_t)(z.at - data - 4));
    p = put32(z.at, crc32(0, data, (size_t)(z.at - data)));
    p = put32(p, 0);
    memcpy(p, "IEND\xae\x42\x60\x82", 8);
    return (size_t)(p + 8 - picture);
}

/* ---- msgpack, reading ------------------------------------------------------------------------------------------- */

typedef enum { NIL, BOOL, UINT, SINT, FLOAT, STR, BIN, ARRAY, MAP, BROKEN } type_t;

typedef struct {
    const uint8_t *at, *end;
} reader_t;

typedef struct {
    type_t type;
    uint64_t number;     /* UINT; SINT: its two's complement; ARRAY, MAP: elements or pairs */
    const uint8_t *data; /* STR, BIN */
    size_t size;
} value_t;

static uint64_t take(reader_t *r, unsigned bytes)
{
    uint64_t number = 0;
    while (bytes--)
        number = number << 8 | *r->at++;
    return number;
}

/* One value within the bounds of section 3, or BROKEN. What an array or a map holds comes next. */
static value_t next_value(reader_t *r)
{
    static const uint8_t lengths[32] = {/* of the number behind 0xc0..0xdf */
                                        0, 0, 0, 0, 1, 2, 4, 0, 0, 0, 4, 8, 1, 2, 4, 8,
                                        1, 2, 4, 8, 0, 0, 0, 0, 0, 1, 2, 4, 2, 4, 2, 4};
    value_t v = {BROKEN, 0, NULL, 0};
    unsigned tag, n;

    if (r->at == r->end)
        return v;
    tag = *r->at++;
    n = tag >= 0xc0 && tag < 0xe0 ? lengths[tag - 0xc0] : 0;
    if ((size_t)(r->end - r->at) < n)
        return v;
    v.number = take(r, n);
    if (tag < 0x80) {
        v.type = UINT;
        v.number = tag;
    } else if (tag < 0x90) {
        v.type = MAP;
        v.number = tag & 15;
    } else if (tag < 0xa0) {
        v.type = ARRAY;
        v.number = tag & 15;
    } else if (tag < 0xc0) {
        v.type = STR;
        v.number = tag & 31;
    } else if (tag >= 0xe0) {
        v.type = SINT;
        v.number = (uint64_t)(int64_t)((int)tag - 256);
    } else if (tag == 0xc0) {
        v.type = NIL;
    } else if (tag == 0xc2 || tag == 0xc3) {
        v.type = BOOL;
    } else if (tag >= 0xc4 && tag <= 0xc6) {
        v.type = BIN;
    } else if (tag == 0xca || tag == 0xcb) {
        v.type = FLOAT;
    } else if (tag >= 0xcc && tag <= 0xcf) {
        v.type = UINT;
    } else if (tag >= 0xd0 && tag <= 0xd3) {
        uint64_t sign = (uint64_t)1 << (8 * n - 1);
        v.number = (v.number ^ sign) - sign;
        v.type = v.number >> 63 ? SINT : UINT;
    } else if (tag >= 0xd9 && tag <= 0xdb) {
        v.type = STR;
    } else if (tag == 0xdc || tag == 0xdd) {
        v.type = ARRAY;
    } else if (tag == 0xde || tag == 0xdf) {
        v.type = MAP;
    }
    if (v.type == STR || v.type == BIN) {
        v.size = (size_t)v.number;
        v.data = r->at;
        if (v.number > 4096 || v.size > (size_t)(r->end - r->at))
            v.type = BROKEN;
        else
            r->at += v.size;
    } else if ((v.type == ARRAY && v.number > 1024) || (v.type == MAP && v.number > 64)) {
        v.type = BROKEN;
    }
    return v;
}

/* Go beyond one value with all that it holds, however deep; 0 when it is broken. */
static int skip(reader_t *r)
{
    uint64_t left = 1;
    while (left--) {
        value_t v = next_value(r);
        if (v.type == BROKEN)
            return 0;
        if (v.type == ARRAY || v.type == MAP)
            left += v.type == MAP ? 2 * v.number : v.number;
    }
    return 1;
}

static int is_text(const value_t *v, const char *text)
{
    return v->type == STR && v->size == strlen(text) && !memcmp(v->data, text, v->size);
}

/* An integer of low..high, neither of them beyond 2^62. */
static int is_integer(const value_t *v, int64_t low, int64_t high, int64_t *number)
{
    if (v->type == UINT && v->number >> 62)
        return 0;
    if (v->type == SINT && ~v->number >> 62)
        return 0;
    if (v->type != UINT && v->type != SINT)
        return 0;
    *number = v->type == UINT ? (int64_t)v->number : -(int64_t)~v->number - 1;
    return *number >= low && *number <= high;
}

/* ---- msgpack, writing ------------------------------------------------------------------------------------------- */

static uint8_t answer[MAX_ANSWER];
static size_t answer_size;

static void put(const void *data, size_t size)
{
    if (size > sizeof answer - answer_size)
        abort(); /* an answer longer than MAX_ANSWER: the parameter table has outgrown it */
    memcpy(answer + answer_size, data, size);
    answer_size += size;
}

static void put_tagged(uint8_t tag, uint64_t number, int bytes)
{
    put(&tag, 1);
    while (bytes--) {
        uint8_t byte = (uint8_t)(number >> (8 * bytes));
        put(&byte, 1);
    }
}

static void put_map(unsigned pairs) { put_tagged(0xde, pairs, 2); }
static void put_array(unsigned elements) { put_tagged(0xdc, elements, 2); }
static void put_uint(uint64_t number) { put_tagged(0xcf, number, 8); }
static void put_int(int64_t number) { put_tagged(0xd3, (uint64_t)number, 8); }
static void put_nil(void) { put_tagged(0xc0, 0, 0); }

static void put_text(const char *text)
{
    put_tagged(0xda, strlen(text), 2);
    put(text, strlen(text));
}

static void put_digest(const uint8_t digest[32])
{
    put_tagged(0xc4, 32, 1);
    put(digest, 32);
}

/* A fraction number / 256 as IEEE 754 double, without a floating-point unit. */
static void put_fraction(int32_t number)
{
    uint64_t size = number < 0 ? (uint64_t)-(int64_t)number : (uint64_t)number, bits = 0;
    int exponent = 1023 + 52 - 8;
    if (size) {
        while (!(size >> 52)) {
            size <<= 1;
            exponent--;
        }
        bits = (uint64_t)(number < 0) << 63 | (uint64_t)exponent << 52 | (size & (((uint64_t)1 << 52) - 1));
    }
    put_tagged(0xcb, bits, 8);
}

static void put_key_text(const char *key, const char *text)
{
    put_text(key);
    put_text(text);
}

static void begin(const char *type, uint64_t id, unsigned further_keys)
{
    answer_size = 0;
    put_map(3 + further_keys);
    put_text("v");
    put_uint(1);
    put_key_text("type", type);
    put_text("id");
    put_uint(id);
}

/* ---- Requests (sections 4, 8 and 9) ------------------------------------------------------------------------------ */

typedef struct {
    uint32_t address;
    int64_t code;
} pair_t;

static pair_t pairs[MAX_REGISTERS];
static size_t picture_size;

/* A request as it came: its header, and its payload in payload[]. */
static struct {
    uint8_t header[MAX_REQUEST];
    uint32_t header_size, payload_size;
    int parts, too_long, too_large; /* too_long: the header was thrown away; too_large: the payload was */
} request;

enum { V, TYPE, ID, BANK, ADDRESSES, REGISTERS, RAW_HASH, METADATA, PAYLOAD_SIZE, KEYS };
static const char *const KEY[KEYS] = {"v",         "type",     "id",       "bank",        "addresses",
                                      "registers", "raw_hash", "metadata", "payload_size"};

typedef struct {
    value_t value[KEYS];  /* BROKEN where the key is missing */
    reader_t inside[KEYS]; /* what an array holds */
    uint64_t id;
} header_t;

static void refuse(uint64_t id, const char *code, const char *format, ...)
{
    char text[MAX_TEXT];
    va_list values;

    va_start(values, format);
    vsnprintf(text, sizeof text, format, values);
    va_end(values);
    begin("error", id, 2);
    put_key_text("code", code);
    put_key_text("text", text);
}

/* Find the keys; 0 when the header breaks a bound. */
static int read_header(header_t *h)
{
    reader_t r = {request.header, request.header + request.header_size};
    value_t map = next_value(&r);
    uint64_t n;
    int i;

    memset(h, 0, sizeof *h);
    for (i = 0; i < KEYS; i++)
        h->value[i].type = BROKEN;
    if (map.type != MAP)
        return 0;
    for (n = 0; n < map.number; n++) {
        value_t key = next_value(&r);
        reader_t before = r;
        if (key.type != STR || !skip(&r))
            return 0;
        for (i = 0; i < KEYS; i++)
            if (is_text(&key, KEY[i])) {
                h->inside[i] = before;
                h->value[i] = next_value(&h->inside[i]);
            }
    }
    h->id = h->value[ID].number;
    return r.at == r.end && h->value[ID].type == UINT;
}

static int is_type(const header_t *h, const char *type) { return is_text(&h->value[TYPE], type); }

/* Read `registers` into pairs[] and check them against the table; gives their number, or -1 with the refusal made. */
static int read_registers(header_t *h)
{
    reader_t *r = &h->inside[REGISTERS];
    int count = (int)h->value[REGISTERS].number, i, j;

    if (h->value[REGISTERS].type != ARRAY) {
        refuse(h->id, "bad_message", "registers is no array of pairs");
        return -1;
    }
    for (i = 0; i < count; i++) {
        int64_t address = 0, code = 0;
        value_t pair = next_value(r), one, two;
        one.type = two.type = BROKEN;
        if (pair.type == ARRAY && pair.number == 2) {
            one = next_value(r);
            two = next_value(r);
        }
        if (!is_integer(&one, 0, 0xffffffff, &address) || !is_integer(&two, -2147483648LL, 0xffffffff, &code)) {
            refuse(h->id, "bad_message", "registers: element %d is no pair of address and code", i);
            return -1;
        }
        pairs[i].address = (uint32_t)address;
        pairs[i].code = code;
        for (j = 0; j < i; j++)
            if (pairs[j].address == pairs[i].address) {
                refuse(h->id, "bad_message", "registers: address 0x%04lx twice", (unsigned long)address);
                return -1;
            }
    }
    for (i = 0; i < count; i++) {
        int which = at_address(pairs[i].address);
        const parameter_t *p = PARAMETERS + (which < 0 ? 0 : which);
        if (which < 0) {
            refuse(h->id, "bad_register", "there is no register at 0x%04lx", (unsigned long)pairs[i].address);
            return -1;
        }
        if (pairs[i].code < p->low || pairs[i].code > p->high) {
            refuse(h->id, "bad_code", "%s: code %lld is outside %ld..%ld", p->name, (long long)pairs[i].code, (long)p->low,
                   (long)p->high);
            return -1;
        }
    }
    return count;
}

static void write_registers(int count)
{
    int i;
    for (i = 0; i < count; i++)
        shadow[at_address(pairs[i].address)] = (int32_t)pairs[i].code;
}

static void answer_registers(uint64_t id, const char *bank_name, const int32_t *bank, int count)
{
    uint8_t digest[32];
    int i;

    begin("registers", id, 4);
    put_key_text("boot_id", boot_id);
    put_key_text("bank", bank_name);
    put_text("registers");
    put_array((unsigned)count);
    for (i = 0; i < count; i++) {
        put_array(2);
        put_uint(pairs[i].address);
        put_int(bank[at_address(pairs[i].address)]);
    }
    parameters_hash(bank, digest);
    put_text("parameters_hash");
    put_digest(digest);
}

static void put_native(const parameter_t *p, int32_t code)
{
    if (p->kind == CONTINUOUS)
        put_fraction(code * (256 / STEP));
    else if (p->kind == CHOICE)
        put_text(p->choices[code]);
    else if (p->kind == BOOLEAN)
        put_tagged(code ? 0xc3 : 0xc2, 0, 0);
    else
        put_int(code);
}

static void do_hello(header_t *h)
{
    static const char *const kinds[] = {"continuous", "integer", "choice", "bool"};
    int i, n;

    begin("info", h->id, 7);
    put_key_text("model", MODEL);
    put_key_text("firmware", FIRMWARE);
    put_key_text("serial", SERIAL_NUMBER);
    put_key_text("boot_id", boot_id);
    put_text("max_in_flight");
    put_uint(MAX_IN_FLIGHT);
    put_text("max_payload");
    put_uint(MAX_PAYLOAD);
    put_text("space");
    put_map(2);
    put_key_text("name", MODEL);
    put_text("parameters");
    put_array(COUNT);
    for (i = 0; i < COUNT; i++) {
        const parameter_t *p = &PARAMETERS[i];
        int has_range = p->kind == CONTINUOUS || p->kind == INTEGER;
        put_map(has_range ? 10 : p->kind == CHOICE ? 8 : 7);
        put_key_text("name", p->name);
        put_key_text("block", p->block);
        put_key_text("kind", kinds[p->kind]);
        put_text("default");
        put_native(p, p->initial);
        put_key_text("unit", p->unit);
        put_text("role");
        if (p->role)
            put_text(p->role);
        else
            put_nil();
        put_text("register");
        put_map(3);
        put_text("address");
        put_uint(p->address);
        put_text("width");
        put_uint(p->width);
        put_text("signed");
        put_tagged(p->low < 0 ? 0xc3 : 0xc2, 0, 0);
        if (has_range) {
            put_text("low");
            put_native(p, p->low);
            put_text("high");
            put_native(p, p->high);
            put_text("step");
            put_fraction(p->kind == CONTINUOUS ? 256 / STEP : 256);
        } else if (p->kind == CHOICE) {
            put_text("choices");
            put_array((unsigned)p->high + 1);
            for (n = 0; n <= p->high; n++)
                put_text(p->choices[n]);
        }
    }
}

static void do_read(header_t *h)
{
    int is_active = is_text(&h->value[BANK], "active"), count = (int)h->value[ADDRESSES].number, i, j;

    if (!is_active && !is_text(&h->value[BANK], "shadow")) {
        refuse(h->id, "bad_message", "bank is neither active nor shadow");
        return;
    }
    if (h->value[ADDRESSES].type != ARRAY) {
        refuse(h->id, "bad_message", "addresses is no array");
        return;
    }
    for (i = 0; i < count; i++) {
        value_t v = next_value(&h->inside[ADDRESSES]);
        int64_t address;
        if (!is_integer(&v, 0, 0xffffffff, &address)) {
            refuse(h->id, "bad_message", "addresses: element %d is no address of 32 bits", i);
            return;
        }
        pairs[i].address = (uint32_t)address;
    }
    for (i = 0; i < count; i++) {
        if (at_address(pairs[i].address) < 0) {
            refuse(h->id, "bad_register", "there is no register at 0x%04lx", (unsigned long)pairs[i].address);
            return;
        }
        for (j = 0; j < i; j++)
            if (pairs[j].address == pairs[i].address) {
                refuse(h->id, "bad_message", "addresses: 0x%04lx twice", (unsigned long)pairs[i].address);
                return;
            }
    }
    if (!count)
        for (count = 0; count < COUNT; count++)
            pairs[count].address = PARAMETERS[count].address;
    answer_registers(h->id, is_active ? "active" : "shadow", is_active ? active : shadow, count);
}

static void do_write(header_t *h)
{
    int count = read_registers(h);
    if (count < 0)
        return;
    write_registers(count);
    answer_registers(h->id, "shadow", shadow, count);
}

static void do_process(header_t *h)
{
    const value_t *hash = &h->value[RAW_HASH], *metadata = &h->value[METADATA], *size = &h->value[PAYLOAD_SIZE];
    uint64_t start = clock_us();
    uint8_t digest[32];
    sha256_t s;
    raw_t raw;
    int count, i;

    /* All checks come first: what is refused changes nothing. */
    if (size->type != UINT) {
        refuse(h->id, "bad_message", "payload_size is no unsigned integer");
        return;
    }
    if (request.too_large || size->number > MAX_PAYLOAD) {
        refuse(h->id, "too_large", "payload above the %lu bytes taken", (unsigned long)MAX_PAYLOAD);
        return;
    }
    if (size->number != request.payload_size || hash->type != BIN || hash->size != 32 || metadata->type != BIN) {
        refuse(h->id, "bad_message", "raw_hash, metadata or payload_size is missing or does not fit");
        return;
    }
    count = read_registers(h);
    if (count < 0)
        return;
    if (!read_metadata(metadata->data, metadata->size, &raw)) {
        refuse(h->id, "bad_raw", "the RAW's metadata is odd");
        return;
    }
    if (2 * (uint64_t)raw.width * raw.height != request.payload_size) {
        refuse(h->id, "bad_raw", "payload of %lu bytes is no %lux%lu mosaic", (unsigned long)request.payload_size,
               (unsigned long)raw.width, (unsigned long)raw.height);
        return;
    }
    sha256_begin(&s);
    sha256_add(&s, metadata->data, metadata->size);
    sha256_add(&s, payload, request.payload_size);
    sha256_end(&s, digest);
    if (memcmp(digest, hash->data, 32)) {
        refuse(h->id, "raw_hash", "the RAW was damaged on the way");
        return;
    }

    write_registers(count);
    memcpy(active, shadow, sizeof active); /* the frame boundary */
    frame_count++;
    picture_size = process_raw(&raw, active);

    begin("frame", h->id, 9);
    put_key_text("boot_id", boot_id);
    put_text("frame");
    put_uint(frame_count);
    put_text("raw_hash");
    put_digest(digest);
    parameters_hash(active, digest);
    put_text("parameters_hash");
    put_digest(digest);
    put_text("registers");
    put_array(COUNT);
    for (i = 0; i < COUNT; i++) {
        put_array(2);
        put_uint(PARAMETERS[i].address);
        put_int(active[i]);
    }
    put_key_text("media_type", "image/png");
    sha256_begin(&s);
    sha256_add(&s, picture, picture_size);
    sha256_end(&s, digest);
    put_text("output_hash");
    put_digest(digest);
    put_text("payload_size");
    put_uint(picture_size);
    put_text("device_ns");
    put_uint((clock_us() - start) * 1000);
}

/* Make the answer to request: answer[], and picture[] when picture_size is above 0. */
static void do_request(void)
{
    header_t h;

    picture_size = 0;
    if (request.too_long) {
        refuse(0, "bad_message", "header above the %lu bytes taken", (unsigned long)MAX_REQUEST);
        return;
    }
    if (!read_header(&h)) {
        refuse(h.value[ID].type == UINT ? h.value[ID].number : 0, "bad_message", "header is no bounded msgpack map");
        return;
    }
    if (h.value[V].type != UINT || h.value[V].number != 1)
        refuse(h.id, "version", "this device speaks version 1");
    else if (request.parts != 1 + is_type(&h, "process") && !is_type(&h, "frame"))
        refuse(h.id, "bad_message", "message of %d parts", request.parts);
    else if (is_type(&h, "hello"))
        do_hello(&h);
    else if (is_type(&h, "read"))
        do_read(&h);
    else if (is_type(&h, "write"))
        do_write(&h);
    else if (is_type(&h, "process"))
        do_process(&h);
    else
        refuse(h.id, "unsupported", "not a request to this device");
}

/* ---- The serial link (section 14) -------------------------------------------------------------------------------- */

enum { OPEN = 1, OPENED, DATA, ACK, RESET };

#define LONGEST 1042 /* bytes of a frame between its zeros */
#define MAX_PEER_WINDOW 32u

static uint32_t session; /* 0: none */

/* Chunks that came: numbers next..next + WINDOW - 1 are kept. */
static struct {
    uint32_t next;
    int ack_due;
    struct {
        uint8_t data[CHUNK];
        uint32_t size; /* 0: none */
    } kept[WINDOW];
    uint32_t left, header_left, payload_at; /* of the message that is coming */
    int request_ready;
} in;

/* The answer on its way: its chunks are cut anew from answer[] and picture[] whenever one is sent. */
static struct {
    uint32_t window, chunk;
    uint32_t base, count;  /* first number and number of the answer's chunks */
    uint32_t first, next;  /* oldest that is not acknowledged, next new one */
    uint8_t prefix[13];
    struct {
        int is_acked, is_due;
        uint32_t order; /* of its last transmission among all */
    } sent[MAX_PEER_WINDOW];
    uint32_t order, wait_us;
    uint64_t resend_at;
} out;

static uint32_t get32(const uint8_t *p)
{
    return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static uint8_t *put_little(uint8_t *p, uint32_t value)
{
    int i;
    for (i = 0; i < 4; i++)
        *p++ = (uint8_t)(value >> 8 * i);
    return p;
}

static void send_frame(int kind, uint32_t of_session, const uint8_t *body, size_t size)
{
    static uint8_t plain[5 + 4 + 1024 + 4], line[LONGEST + 2];
    uint8_t *p = put_little(plain + 1, of_session), *code = line + 1, *to = line + 2;
    size_t i;

    plain[0] = (uint8_t)kind;
    if (size)
        memcpy(p, body, size);
    size += 5;
    size = (size_t)(put_little(plain + size, crc32(0, plain, size)) - plain);
    line[0] = 0;
    *code = 1;
    for (i = 0; i < size; i++) { /* COBS: each code counts the bytes up to the next zero, itself included */
        if (plain[i]) {
            *to++ = plain[i];
            ++*code;
        }
        if (!plain[i] || *code == 255) {
            if (plain[i] && i + 1 == size)
                break;
            code = to++;
            *code = 1;
        }
    }
    *to++ = 0;
    port_write(line, (size_t)(to - line));
}

static void forget_session(void)
{
    session = 0;
    memset(&in, 0, sizeof in);
    memset(&out, 0, sizeof out);
}

static void reset_session(void)
{
    send_frame(RESET, session, NULL, 0);
    forget_session();
}

/* ---- ... chunks in */

/* The first chunk of a message begins with its sizes; 0 when they break the protocol. */
static int begin_message(const uint8_t *data, uint32_t size)
{
    uint32_t header, stored, whole;

    if (size < 13)
        return 0;
    header = get32(data + 1);
    stored = get32(data + 5);
    whole = get32(data + 9);
    if (data[0] & ~2 || !header || stored != whole || (stored && !(data[0] & 2)) || header > 0xffffffff - stored)
        return 0;
    request.parts = data[0] & 2 ? 2 : 1;
    request.header_size = request.payload_size = 0;
    request.too_long = header > MAX_REQUEST;
    request.too_large = stored > MAX_PAYLOAD;
    in.header_left = header;
    in.left = header + stored;
    return 1;
}

/* Take the chunks that are next, up to the end of a message; it waits until the answer before it has arrived. */
static void take_chunks(void)
{
    while (session && !in.request_ready) {
        uint32_t slot = in.next % WINDOW, size = in.kept[slot].size, n;
        const uint8_t *data = in.kept[slot].data;

        if (!size)
            return;
        if (!in.left) {
            if (!begin_message(data, size)) {
                reset_session();
                return;
            }
            data += 13;
            size -= 13;
        }
        if (size > in.left) {
            reset_session();
            return;
        }
        in.left -= size;
        n = size < in.header_left ? size : in.header_left;
        if (!request.too_long)
            memcpy(request.header + request.header_size, data, n);
        if (!request.too_long)
            request.header_size += n;
        in.header_left -= n;
        if (!request.too_large && !request.too_long) {
            memcpy(payload + request.payload_size, data + n, size - n);
            request.payload_size += size - n;
        }
        in.kept[slot].size = 0;
        in.next++;
        in.ack_due = 1;
        in.request_ready = !in.left;
    }
}

static void take_data(const uint8_t *body, uint32_t size)
{
    uint32_t number = get32(body), slot = number % WINDOW;

    in.ack_due = 1;
    size -= 4;
    if (number - in.next >= WINDOW || in.kept[slot].size || size > CHUNK)
        return;
    memcpy(in.kept[slot].data, body + 4, size);
    in.kept[slot].size = size;
    take_chunks();
}

static void send_ack(void)
{
    uint8_t body[8];
    uint32_t bits = 0, i;

    /* While the chunk that is next waits here, those behind it are not told of: else it would look lost. */
    if (!in.kept[in.next % WINDOW].size)
        for (i = 1; i < WINDOW; i++)
            if (in.kept[(in.next + i) % WINDOW].size)
                bits |= 1u << (i - 1);
    put_little(put_little(body, in.next), bits);
    send_frame(ACK, session, body, sizeof body);
    in.ack_due = 0;
}

/* ---- ... chunks out */

static void begin_answer(void)
{
    uint32_t total = 13 + (uint32_t)answer_size + (uint32_t)picture_size;

    out.prefix[0] = picture_size ? 2 : 0;
    put_little(put_little(put_little(out.prefix + 1, (uint32_t)answer_size), (uint32_t)picture_size),
               (uint32_t)picture_size);
    out.base = out.next;
    out.count = (total + out.chunk - 1) / out.chunk;
    out.wait_us = RESEND_US;
}

static void send_chunk(uint32_t number)
{
    static uint8_t body[4 + 1024];
    const uint8_t *pieces[3];
    size_t sizes[3], at = (size_t)(number - out.base) * out.chunk, room = out.chunk;
    uint8_t *p = put_little(body, number);
    int i;

    pieces[0] = out.prefix, sizes[0] = sizeof out.prefix;
    pieces[1] = answer, sizes[1] = answer_size;
    pieces[2] = picture, sizes[2] = picture_size;
    for (i = 0; i < 3; i++) {
        size_t n = at < sizes[i] ? sizes[i] - at : 0;
        if (n > room)
            n = room;
        memcpy(p, pieces[i] + (n ? at : 0), n);
        p += n;
        room -= n;
        at = n ? 0 : at - sizes[i];
        if (!room)
            break;
    }
    out.sent[number % MAX_PEER_WINDOW].is_due = 0;
    out.sent[number % MAX_PEER_WINDOW].order = ++out.order;
    send_frame(DATA, session, body, (size_t)(p - body));
}

static int answer_under_way(void) { return out.first - out.base < out.count; }

/* Send what is due: lost chunks, new ones, or after a long silence the oldest one. */
static void send_due(void)
{
    uint32_t n;

    if (!answer_under_way())
        return;
    for (n = out.first; n != out.next; n++)
        if (out.sent[n % MAX_PEER_WINDOW].is_due)
            send_chunk(n);
    for (; out.next - out.first < out.window && out.next - out.base < out.count; out.next++) {
        if (out.next == 0xffffffff) {
            reset_session();
            return;
        }
        if (out.next == out.first)
            out.resend_at = clock_us() + out.wait_us;
        out.sent[out.next % MAX_PEER_WINDOW].is_acked = 0;
        send_chunk(out.next);
    }
    if (clock_us() >= out.resend_at) {
        out.wait_us = 2 * out.wait_us < MAX_RESEND_US ? 2 * out.wait_us : MAX_RESEND_US;
        send_chunk(out.first);
        out.resend_at = clock_us() + out.wait_us;
    }
}

static void take_ack(uint32_t next, uint32_t bits)
{
    uint32_t n, newest = 0;
    int is_news = 0;

    if (next - out.first > out.next - out.first)
        return;
    for (n = out.first; n != out.next; n++) {
        uint32_t slot = n % MAX_PEER_WINDOW, behind = n - next;
        int has_come = n - out.first < next - out.first || (behind >= 1 && behind <= 32 && bits >> (behind - 1) & 1);
        if (has_come && !out.sent[slot].is_acked) {
            out.sent[slot].is_acked = is_news = 1;
            out.sent[slot].is_due = 0;
            if (out.sent[slot].order > newest)
                newest = out.sent[slot].order;
        }
    }
    while (out.first != out.next && out.sent[out.first % MAX_PEER_WINDOW].is_acked)
        out.first++;
    for (n = out.first; n != out.next; n++) /* the line keeps the order: what was sent before news is lost */
        if (!out.sent[n % MAX_PEER_WINDOW].is_acked && out.sent[n % MAX_PEER_WINDOW].order < newest)
            out.sent[n % MAX_PEER_WINDOW].is_due = 1;
    if (is_news) {
        out.wait_us = RESEND_US;
        out.resend_at = clock_us() + out.wait_us;
    }
}

/* ---- ... frames */

static void take_open(uint32_t of_session, const uint8_t *body)
{
    static const uint8_t mine[5] = {1, 0, WINDOW, CHUNK & 255, CHUNK >> 8};
    uint32_t window = body[2], chunk = body[3] | (uint32_t)body[4] << 8;

    send_frame(OPENED, of_session, mine, sizeof mine);
    if (body[0] != 1 || window < 1 || window > 32 || chunk < 64 || chunk > 1024 || of_session == session)
        return;
    forget_session();
    session = of_session;
    out.window = window < WINDOW ? window : WINDOW;
    out.chunk = chunk < CHUNK ? chunk : CHUNK;
}

static void take_frame(const uint8_t *frame, uint32_t size)
{
    uint32_t of_session, body;

    if (size < 9 || crc32(0, frame, size - 4) != get32(frame + size - 4))
        return;
    of_session = get32(frame + 1);
    body = size - 9;
    frame += 5;
    if (!of_session)
        return;
    switch (frame[-5]) {
    case OPEN:
        if (body == 5)
            take_open(of_session, frame);
        break;
    case DATA:
    case ACK:
        if (frame[-5] == DATA ? body < 5 || body > 4 + 1024 : body != 8)
            break;
        if (of_session != session)
            send_frame(RESET, of_session, NULL, 0);
        else if (frame[-5] == DATA)
            take_data(frame, body);
        else
            take_ack(get32(frame), get32(frame + 4));
        break;
    case RESET:
        if (!body && of_session == session)
            forget_session();
        break;
    }
}

/* Undo COBS in place; 0 when it is none. */
static uint32_t uncobs(uint8_t *data, uint32_t size)
{
    uint32_t from = 0, to = 0;
    while (from < size) {
        uint32_t code = data[from++], n;
        if (code - 1 > size - from)
            return 0;
        for (n = 1; n < code; n++)
            data[to++] = data[from++];
        if (code < 255 && from < size)
            data[to++] = 0;
    }
    return to;
}

static void take_byte(uint8_t byte)
{
    static uint8_t piece[LONGEST];
    static uint32_t size; /* LONGEST + 1: overlong, dropped up to the next zero */

    if (byte) {
        if (size < LONGEST)
            piece[size] = byte;
        if (size <= LONGEST)
            size++;
        return;
    }
    if (size && size <= LONGEST)
        take_frame(piece, uncobs(piece, size));
    size = 0;
}

static void power_on(void)
{
    uint64_t number = boot_number();
    int i;

    for (i = 0; i < 16; i++)
        boot_id[i] = "0123456789abcdef"[number >> 4 * i & 15];
    for (i = 0; i < COUNT; i++)
        shadow[i] = active[i] = PARAMETERS[i].initial;
}

static uint32_t wait_us(void)
{
    uint64_t now = clock_us();
    if (!answer_under_way())
        return MAX_RESEND_US;
    return now < out.resend_at ? (uint32_t)(out.resend_at - now) : 0;
}

/* Serve the line until it is gone. */
static void serve(void)
{
    static uint8_t data[512];
    int size, i;

    while ((size = port_read(data, sizeof data, wait_us())) >= 0) {
        for (i = 0; i < size; i++)
            take_byte(data[i]);
        /* Acknowledge before a frame is processed: nobody is answered meanwhile. */
        if (session && in.ack_due)
            send_ack();
        if (session && in.request_ready && !answer_under_way()) {
            do_request();
            begin_answer();
            in.request_ready = 0;
            take_chunks();
            if (session && in.ack_due)
                send_ack();
        }
        if (session)
            send_due();
    }
}

/* The line is standard input and output, or the terminal named as argument (115200 baud). */
int main(int count, char **arguments)
{
    if (count > 1) {
        struct termios raw;
        port_in = port_out = open(arguments[1], O_RDWR | O_NOCTTY);
        if (port_in < 0 || tcgetattr(port_in, &raw)) {
            perror(arguments[1]);
            return 1;
        }
        raw.c_iflag = raw.c_oflag = raw.c_lflag = 0;
        raw.c_cflag = CS8 | CREAD | CLOCAL;
        raw.c_cc[VMIN] = 1;
        raw.c_cc[VTIME] = 0;
        cfsetispeed(&raw, B115200);
        cfsetospeed(&raw, B115200);
        tcsetattr(port_in, TCSANOW, &raw);
    }
    fcntl(port_out, F_SETFL, fcntl(port_out, F_GETFL) | O_NONBLOCK);
    power_on();
    serve();
    return 0;
}
