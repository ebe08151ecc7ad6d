/* The charm's side of every hook tool: the name that it is called by says which.
 *
 * It hands its arguments, and the files that they name, to onebox over a Unix socket, and prints
 * what comes back. A hook calls some twenty tools, each a process, so it is compiled and linked
 * statically: it starts in a fifth of the time that an interpreter needs. A message is a sequence
 * of fields, each a length, a newline and that many bytes; see hookserver.py.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

struct text {
    char *data;
    size_t length, room;
};

static _Noreturn void fail(const char *format, ...)
{
    va_list values;
    va_start(values, format);
    fputs("ERROR ", stderr);
    vfprintf(stderr, format, values);
    fputc('\n', stderr);
    exit(1);
}

/* Make sure that some more bytes fit, and return where they go. */
static char *end(struct text *text, size_t more)
{
    if (text->room - text->length < more) {
        text->room = 2 * text->room + more;
        text->data = realloc(text->data, text->room);
        if (!text->data)
            fail("out of memory");
    }
    return text->data + text->length;
}

static void append(struct text *text, const char *data, size_t length)
{
    if (length)
        memcpy(end(text, length), data, length);
    text->length += length;
}

static void append_field(struct text *message, const char *data, size_t length)
{
    char head[32];
    append(message, head, (size_t)snprintf(head, sizeof head, "%zu\n", length));
    append(message, data, length);
}

static void append_stream(struct text *text, int descriptor, const char *name)
{
    ssize_t got;
    while ((got = read(descriptor, end(text, 65536), 65536)) != 0) {
        if (got > 0)
            text->length += (size_t)got;
        else if (errno != EINTR)
            fail("cannot read %s: %s", name, strerror(errno));
    }
}

static void append_file(struct text *text, const char *path)
{
    int descriptor = open(path, O_RDONLY | O_CLOEXEC);
    if (descriptor < 0)
        fail("cannot read %s: %s", path, strerror(errno));
    append_stream(text, descriptor, path);
    close(descriptor);
}

/* Return what follows KEY#file= in an argument of a tool that takes secrets, or NULL. Contents of
 * secrets travel in files, never in an argument that `ps` shows. */
static const char *content_file(const char *tool, const char *argument)
{
    static const char mark[] = "#file=";
    if (strcmp(tool, "secret-add") != 0 && strcmp(tool, "secret-set") != 0)
        return NULL;
    size_t key = strcspn(argument, "=#");
    bool marked = key > 0 && strncmp(argument + key, mark, strlen(mark)) == 0;
    return marked ? argument + key + strlen(mark) : NULL;
}

static struct text request(const char *tool, int count, char **arguments)
{
    struct text message = {0}, input = {0}, fields = {0};
    for (int i = 0; i < count; i++) {
        if (i > 0 && strcmp(arguments[i - 1], "--file") == 0) {
            input.length = 0;
            if (strcmp(arguments[i], "-") == 0)
                append_stream(&input, STDIN_FILENO, "standard input");
            else
                append_file(&input, arguments[i]);
        }
        const char *path = content_file(tool, arguments[i]);
        if (path) {
            struct text argument = {0};
            append(&argument, arguments[i], strcspn(arguments[i], "#"));
            append(&argument, "=", 1);
            append_file(&argument, path);
            append_field(&fields, argument.data, argument.length);
            free(argument.data);
        } else {
            append_field(&fields, arguments[i], strlen(arguments[i]));
        }
    }
    const char *context = getenv("JUJU_CONTEXT_ID");
    char number[16];
    append_field(&message, context, context ? strlen(context) : 0);
    append_field(&message, tool, strlen(tool));
    append_field(&message, input.data, input.length);
    append_field(&message, number, (size_t)snprintf(number, sizeof number, "%d", count));
    append(&message, fields.data, fields.length);
    return message;
}

static int onebox(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    const char *path = getenv("JUJU_AGENT_SOCKET_ADDRESS");
    int descriptor = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (!path || strlen(path) >= sizeof address.sun_path)
        fail("JUJU_AGENT_SOCKET_ADDRESS is no path of a socket");
    strcpy(address.sun_path, path);
    if (descriptor < 0 || connect(descriptor, (struct sockaddr *)&address, sizeof address) != 0)
        fail("cannot reach onebox: %s", strerror(errno));
    return descriptor;
}

static void send_all(int descriptor, struct text message)
{
    for (size_t sent = 0; sent < message.length;) {
        ssize_t more = send(
            descriptor, message.data + sent, message.length - sent, MSG_NOSIGNAL);
        if (more >= 0)
            sent += (size_t)more;
        else if (errno != EINTR)
            fail("onebox went away");
    }
}

static struct text receive(FILE *answer)
{
    struct text text = {0};
    char head[32], *rest = head;
    if (fgets(head, sizeof head, answer))
        text.length = strtoull(head, &rest, 10);
    if (rest == head || *rest != '\n')
        fail("onebox went away");
    text.data = malloc(text.length + 1);
    if (!text.data)
        fail("out of memory");
    if (fread(text.data, 1, text.length, answer) != text.length)
        fail("onebox went away");
    text.data[text.length] = '\0';
    return text;
}

int main(int count, char **arguments)
{
    const char *slash = strrchr(arguments[0], '/');
    const char *tool = slash ? slash + 1 : arguments[0];
    struct text message = request(tool, count - 1, arguments + 1);
    int descriptor = onebox();
    send_all(descriptor, message);

    FILE *answer = fdopen(descriptor, "r");
    struct text code = receive(answer), output = receive(answer), error = receive(answer);
    fwrite(error.data, 1, error.length, stderr);
    fwrite(output.data, 1, output.length, stdout);
    if (fflush(stdout) != 0)
        fail("cannot write: %s", strerror(errno));
    return atoi(code.data);
}
