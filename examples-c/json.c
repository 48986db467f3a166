/* Recursive descent over a buffer. Each parse_ function leaves p->at behind what it took and returns 0, or -1. */
#include "json.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_DEPTH = 64 };

enum type { ATOM, NUMBER, STRING, ARRAY, OBJECT }; /* ATOM: null, true and false, which nobody here reads */

struct json {
    enum type type;
    char *key;     /* name of a member of an object */
    char *text;    /* STRING */
    int64_t whole; /* NUMBER: its value, or -1 if that is negative, no whole number, or too large */
    json *child;   /* ARRAY, OBJECT: the first of a list */
    json *next;
};

struct parser {
    const char *at, *end;
    int depth;
};

static int parse_value(struct parser *p, json *value);

static void skip_space(struct parser *p)
{
    while (p->at < p->end && (*p->at == ' ' || *p->at == '\t' || *p->at == '\n' || *p->at == '\r'))
        p->at++;
}

static int take(struct parser *p, char c)
{
    if (p->at == p->end || *p->at != c)
        return -1;
    p->at++;
    return 0;
}

static int is_digit(const struct parser *p)
{
    return p->at < p->end && *p->at >= '0' && *p->at <= '9';
}

static int parse_word(struct parser *p, const char *word)
{
    size_t len = strlen(word);

    if ((size_t)(p->end - p->at) < len || memcmp(p->at, word, len) != 0)
        return -1;
    p->at += len;
    return 0;
}

static int parse_digits(struct parser *p)
{
    if (!is_digit(p))
        return -1;
    while (is_digit(p))
        p->at++;
    return 0;
}

static int parse_number(struct parser *p, json *value)
{
    int negative = take(p, '-') == 0;

    value->type = NUMBER;
    value->whole = 0;
    if (!is_digit(p))
        return -1;
    if (*p->at == '0') {
        p->at++;
        if (is_digit(p))
            return -1;
    }
    for (; is_digit(p); p->at++) {
        int digit = *p->at - '0';

        if (value->whole >= 0 && value->whole <= (INT64_MAX - digit) / 10)
            value->whole = value->whole * 10 + digit;
        else
            value->whole = -1;
    }
    if (take(p, '.') == 0) {
        value->whole = -1;
        if (parse_digits(p) != 0)
            return -1;
    }
    if (p->at < p->end && (*p->at == 'e' || *p->at == 'E')) {
        value->whole = -1;
        p->at++;
        if (take(p, '+') != 0)
            take(p, '-');
        if (parse_digits(p) != 0)
            return -1;
    }
    if (negative)
        value->whole = -1;
    return 0;
}

static int parse_hex4(struct parser *p, uint32_t *code)
{
    *code = 0;
    for (int i = 0; i < 4; i++, p->at++) {
        char c = p->at < p->end ? *p->at : '\0';
        uint32_t digit;

        if (c >= '0' && c <= '9')
            digit = (uint32_t)(c - '0');
        else if (c >= 'a' && c <= 'f')
            digit = (uint32_t)(c - 'a') + 10;
        else if (c >= 'A' && c <= 'F')
            digit = (uint32_t)(c - 'A') + 10;
        else
            return -1;
        *code = *code * 16 + digit;
    }
    return 0;
}

static char *put_utf8(char *out, uint32_t code)
{
    if (code < 0x80) {
        *out++ = (char)code;
    } else if (code < 0x800) {
        *out++ = (char)(0xc0 | code >> 6);
        *out++ = (char)(0x80 | (code & 0x3f));
    } else if (code < 0x10000) {
        *out++ = (char)(0xe0 | code >> 12);
        *out++ = (char)(0x80 | (code >> 6 & 0x3f));
        *out++ = (char)(0x80 | (code & 0x3f));
    } else {
        *out++ = (char)(0xf0 | code >> 18);
        *out++ = (char)(0x80 | (code >> 12 & 0x3f));
        *out++ = (char)(0x80 | (code >> 6 & 0x3f));
        *out++ = (char)(0x80 | (code & 0x3f));
    }
    return out;
}

/* What follows a backslash: at most 12 bytes in, never more bytes out than in. */
static int parse_escape(struct parser *p, char **out)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    const char *found;
    uint32_t code, low;

    if (p->at == p->end || *p->at == '\0')
        return -1;
    found = strchr(from, *p->at);
    if (found != NULL) {
        p->at++;
        *(*out)++ = to[found - from];
        return 0;
    }
    if (take(p, 'u') != 0 || parse_hex4(p, &code) != 0 || code == 0)
        return -1;
    if (code >= 0xdc00 && code <= 0xdfff)
        return -1;
    if (code >= 0xd800 && code <= 0xdbff) {
        if (take(p, '\\') != 0 || take(p, 'u') != 0 || parse_hex4(p, &low) != 0)
            return -1;
        if (low < 0xdc00 || low > 0xdfff)
            return -1;
        code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
    }
    *out = put_utf8(*out, code);
    return 0;
}

/* One character of more than a byte, as RFC 3629 has it: no overlong forms, surrogates or values past 10FFFF. */
static int parse_multibyte(struct parser *p, char **out)
{
    const unsigned char *s = (const unsigned char *)p->at;
    int len = s[0] >= 0xf0 ? 4 : s[0] >= 0xe0 ? 3 : 2;
    unsigned low = 0x80, high = 0xbf; /* range of the second byte */

    if (s[0] < 0xc2 || s[0] > 0xf4 || p->end - p->at < len)
        return -1;
    if (s[0] == 0xe0)
        low = 0xa0;
    else if (s[0] == 0xed)
        high = 0x9f;
    else if (s[0] == 0xf0)
        low = 0x90;
    else if (s[0] == 0xf4)
        high = 0x8f;
    if (s[1] < low || s[1] > high)
        return -1;
    for (int i = 2; i < len; i++)
        if ((s[i] & 0xc0) != 0x80)
            return -1;
    memcpy(*out, p->at, (size_t)len);
    *out += len;
    p->at += len;
    return 0;
}

static int parse_string(struct parser *p, char **text)
{
    const char *close = p->at + 1;
    char *out;

    if (take(p, '"') != 0)
        return -1;
    while (close < p->end && *close != '"')
        close += *close == '\\' && close + 1 < p->end ? 2 : 1;
    if (close >= p->end)
        return -1;
    out = *text = malloc((size_t)(close - p->at) + 1); /* the decoded form is never longer */
    if (out == NULL)
        return -1;
    while (p->at < close) {
        unsigned char c = (unsigned char)*p->at;

        if (c < 0x20)
            return -1;
        if (c == '\\') {
            p->at++;
            if (parse_escape(p, &out) != 0)
                return -1;
        } else if (c < 0x80) {
            *out++ = (char)c;
            p->at++;
        } else if (parse_multibyte(p, &out) != 0) {
            return -1;
        }
    }
    *out = '\0';
    return take(p, '"');
}

/* The elements of an array, or the members of an object, up to and with the closing bracket. */
static int parse_list(struct parser *p, json *list, char close)
{
    json **tail = &list->child;

    p->at++;
    skip_space(p);
    if (take(p, close) == 0)
        return 0;
    do {
        json *item = *tail = calloc(1, sizeof *item);

        if (item == NULL)
            return -1;
        tail = &item->next;
        if (list->type == OBJECT) {
            skip_space(p);
            if (parse_string(p, &item->key) != 0)
                return -1;
            skip_space(p);
            if (take(p, ':') != 0)
                return -1;
        }
        if (parse_value(p, item) != 0)
            return -1;
    } while (take(p, ',') == 0);
    return take(p, close);
}

static int parse_value(struct parser *p, json *value)
{
    int result;

    skip_space(p);
    if (p->at == p->end || p->depth++ == MAX_DEPTH)
        return -1;
    switch (*p->at) {
    case '{':
        value->type = OBJECT;
        result = parse_list(p, value, '}');
        break;
    case '[':
        value->type = ARRAY;
        result = parse_list(p, value, ']');
        break;
    case '"':
        value->type = STRING;
        result = parse_string(p, &value->text);
        break;
    case 'n':
        result = parse_word(p, "null");
        break;
    case 't':
        result = parse_word(p, "true");
        break;
    case 'f':
        result = parse_word(p, "false");
        break;
    default:
        result = parse_number(p, value);
    }
    p->depth--;
    skip_space(p);
    return result;
}

json *json_parse(const char *text, size_t len)
{
    struct parser p = {text, text + len, 0};
    json *value = calloc(1, sizeof *value);

    if (value != NULL && (parse_value(&p, value) != 0 || p.at != p.end)) {
        json_free(value);
        value = NULL;
    }
    return value;
}

void json_free(json *value)
{
    while (value != NULL) {
        json *next = value->next;

        json_free(value->child);
        free(value->key);
        free(value->text);
        free(value);
        value = next;
    }
}

const json *json_get(const json *object, const char *key)
{
    const json *found = NULL;

    if (object != NULL && object->type == OBJECT)
        for (const json *member = object->child; member != NULL; member = member->next)
            if (strcmp(member->key, key) == 0)
                found = member;
    return found;
}

const json *json_first(const json *array)
{
    return array != NULL && array->type == ARRAY ? array->child : NULL;
}

const json *json_next(const json *element)
{
    return element != NULL ? element->next : NULL;
}

const char *json_text(const json *value)
{
    return value != NULL && value->type == STRING ? value->text : NULL;
}

int64_t json_int(const json *value)
{
    return value != NULL && value->type == NUMBER ? value->whole : -1;
}

void json_write_text(FILE *out, const char *text)
{
    putc('"', out);
    for (; *text != '\0'; text++) {
        unsigned char c = (unsigned char)*text;

        if (c < 0x20)
            fprintf(out, "\\u%04x", c);
        else if (c == '"' || c == '\\')
            fprintf(out, "\\%c", c);
        else
            putc(c, out);
    }
    putc('"', out);
}
