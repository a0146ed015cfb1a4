/* Records what a process does to the files below one folder.
 *
 * Loaded before libc. Every call that changes a file or a folder below POWERCUT_ROOT is carried out and appended to POWERCUT_TRACE
 * with its data and two numbers of one counter: one drawn before the call, one after it. What is written to POWERCUT_MARKS is
 * recorded as a mark. A call that changes files in a way that is not recorded ends the process with status 97 and says so.
 */
#define _GNU_SOURCE
#include <aio.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define PLACE (2 * PATH_MAX)

/* One entry of the trace; two paths and the data follow it. Read by `trace.rs`. */
struct entry {
    uint8_t kind;
    uint8_t unused[3];
    uint32_t path_bytes, other_path_bytes, data_bytes;
    uint64_t begin, end, inode, offset, length;
    int64_t flags;
};

static int trace = -1;
static char root[PATH_MAX], marks[PATH_MAX];
static size_t root_length;
static _Atomic uint64_t counter = 1;
static pthread_mutex_t appending = PTHREAD_MUTEX_INITIALIZER;
static pthread_mutex_t placing = PTHREAD_MUTEX_INITIALIZER;

static uint64_t tick(void) { return __atomic_fetch_add(&counter, 1, __ATOMIC_SEQ_CST); }

static _Atomic int under_way, ending;

/* Begins a call that is recorded. Once the process ends none begins any more, and its end waits for those that have. */
static uint64_t entered(void) {
    __atomic_fetch_add(&under_way, 1, __ATOMIC_SEQ_CST);
    if (__atomic_load_n(&ending, __ATOMIC_SEQ_CST)) {
        __atomic_fetch_sub(&under_way, 1, __ATOMIC_SEQ_CST);
        for (;;) pause();
    }
    return tick();
}

static void left(uint64_t *begin) {
    (void)begin;
    __atomic_fetch_sub(&under_way, 1, __ATOMIC_SEQ_CST);
}
#define BEGIN __attribute__((cleanup(left))) uint64_t begin = entered()

__attribute__((destructor)) static void end_recording(void) {
    __atomic_store_n(&ending, 1, __ATOMIC_SEQ_CST);
    while (__atomic_load_n(&under_way, __ATOMIC_SEQ_CST)) sched_yield();
}

static long (*real_syscall(void))(long, ...) {
    static long (*found)(long, ...);
    if (!found) found = dlsym(RTLD_NEXT, "syscall");
    return found;
}
#define raw (*real_syscall())

static __attribute__((noreturn)) void fail(const char *what) {
    static const char before[] = "powercut: cannot record: ";
    raw(SYS_write, 2, before, sizeof before - 1);
    raw(SYS_write, 2, what, strlen(what));
    raw(SYS_write, 2, "\n", 1);
    for (;;) raw(SYS_exit_group, 97);
}

__attribute__((constructor)) static void begin_recording(void) {
    const char *to = getenv("POWERCUT_TRACE"), *below = getenv("POWERCUT_ROOT"), *marked = getenv("POWERCUT_MARKS");
    if (!to || !below || !marked) return;
    snprintf(root, sizeof root, "%s", below);
    snprintf(marks, sizeof marks, "%s", marked);
    root_length = strlen(root);
    long opened = raw(SYS_openat, AT_FDCWD, to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (opened < 0) fail("the trace cannot be opened");
    /* Out of the way of the numbers that the program gets. */
    trace = (int)raw(SYS_fcntl, opened, F_DUPFD_CLOEXEC, 900);
    if (trace < 0) fail("the trace cannot be kept open");
    raw(SYS_close, opened);
}

static void append(const void *bytes, size_t left) {
    const char *from = bytes;
    while (left) {
        long done = raw(SYS_write, trace, from, left);
        if (done <= 0) fail("the trace cannot be written");
        from += done;
        left -= (size_t)done;
    }
}

static void note(uint8_t kind, uint64_t begin, uint64_t inode, uint64_t offset, uint64_t length, int64_t flags,
                 const char *path, const char *other, const void *data, size_t data_bytes) {
    struct entry entry = {.kind = kind, .begin = begin, .inode = inode, .offset = offset, .length = length, .flags = flags};
    entry.path_bytes = path ? (uint32_t)strlen(path) : 0;
    entry.other_path_bytes = other ? (uint32_t)strlen(other) : 0;
    entry.data_bytes = (uint32_t)data_bytes;
    pthread_mutex_lock(&appending);
    entry.end = tick();
    append(&entry, sizeof entry);
    append(path, entry.path_bytes);
    append(other, entry.other_path_bytes);
    append(data, data_bytes);
    pthread_mutex_unlock(&appending);
}

static int is_below(const char *path) {
    return strncmp(path, root, root_length) == 0 && (path[root_length] == '/' || path[root_length] == 0);
}

static int link_of(const char *name, char *out) {
    long length = raw(SYS_readlinkat, AT_FDCWD, name, out, PATH_MAX - 1);
    if (length <= 0) return 0;
    out[length] = 0;
    return 1;
}

static int place_of(int fd, char *out) {
    char name[64];
    snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
    return link_of(name, out);
}

/* Whether `fd` is below the root; 2 if it is the file of marks. */
static int watched(int fd) {
    char path[PLACE];
    if (trace < 0 || fd < 0 || fd == trace || !place_of(fd, path)) return 0;
    return is_below(path) ? 1 : strcmp(path, marks) == 0 ? 2 : 0;
}

/* The whole path of what a call names; answers whether it is below the root. */
static int whole_path(int folder, const char *path, char *out) {
    if (trace < 0 || !path) return 0;
    if (*path == '/') {
        snprintf(out, PLACE, "%s", path);
    } else {
        if (folder == AT_FDCWD ? !link_of("/proc/self/cwd", out) : !place_of(folder, out)) return 0;
        size_t length = strlen(out);
        snprintf(out + length, PLACE - length, "/%s", path);
    }
    return is_below(out);
}

static uint64_t inode_of(int fd, int *is_folder) {
    struct stat about;
    if (fstat(fd, &about)) fail("fstat");
    if (is_folder) *is_folder = S_ISDIR(about.st_mode);
    return about.st_ino;
}

/* Zeros at the end of what was written are not stored: the length tells them. */
static size_t without_zeros(const char *data, size_t length) {
    while (length && data[length - 1] == 0) length--;
    return length;
}

#define NEXT(type, name) \
    static __typeof__(type) next; \
    if (!next) next = (__typeof__(type))dlsym(RTLD_NEXT, name)
#define KEEPING_ERRNO(statement) \
    do { \
        int kept = errno; \
        statement; \
        errno = kept; \
    } while (0)

/* -- opening ----------------------------------------------------------------------------------------------------------------- */

static int opened(int folder, const char *path, int flags, unsigned mode) {
    char whole[PLACE];
    if (!whole_path(folder, path, whole)) {
        long answer = raw(SYS_openat, folder, path, flags, mode);
        return (int)answer;
    }
    if ((flags & O_TMPFILE) == O_TMPFILE) fail("open with O_TMPFILE");
    if (flags & (O_DSYNC | O_SYNC | O_DIRECT)) fail("open with O_SYNC, O_DSYNC or O_DIRECT");
    BEGIN;
    int fd = (int)raw(SYS_openat, folder, path, flags, mode);
    if (fd >= 0) {
        int is_folder;
        uint64_t inode = inode_of(fd, &is_folder);
        note('O', begin, inode, is_folder, 0, (flags & O_CREAT ? 1 : 0) | (flags & O_TRUNC ? 2 : 0), whole, 0, 0, 0);
    }
    return fd;
}

#define MODE(flags, last) \
    unsigned mode = 0; \
    if ((flags) & (O_CREAT | O_TMPFILE)) { \
        va_list more; \
        va_start(more, last); \
        mode = va_arg(more, unsigned); \
        va_end(more); \
    }

int open(const char *path, int flags, ...) { MODE(flags, flags) return opened(AT_FDCWD, path, flags, mode); }
int open64(const char *path, int flags, ...) { MODE(flags, flags) return opened(AT_FDCWD, path, flags, mode); }
int openat(int folder, const char *path, int flags, ...) { MODE(flags, flags) return opened(folder, path, flags, mode); }
int openat64(int folder, const char *path, int flags, ...) { MODE(flags, flags) return opened(folder, path, flags, mode); }
int creat(const char *path, mode_t mode) { return opened(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode); }
int creat64(const char *path, mode_t mode) { return opened(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode); }

/* -- writing ----------------------------------------------------------------------------------------------------------------- */

static ssize_t wrote(int fd, const void *data, ssize_t answer, uint64_t begin, uint64_t offset) {
    if (answer > 0)
        KEEPING_ERRNO(note('W', begin, inode_of(fd, 0), offset, (uint64_t)answer, 0, 0, 0, data,
                           without_zeros(data, (size_t)answer)));
    return answer;
}

ssize_t write(int fd, const void *data, size_t length) {
    int how = watched(fd);
    if (!how) return raw(SYS_write, fd, data, length);
    pthread_mutex_lock(&placing);
    BEGIN;
    ssize_t answer = raw(SYS_write, fd, data, length);
    if (how == 2) {
        if (answer > 0) note('A', begin, 0, 0, 0, 0, 0, 0, data, (size_t)answer);
    } else {
        /* Where it went is known afterwards, also to a file that is appended to. */
        long end = raw(SYS_lseek, fd, 0, SEEK_CUR);
        wrote(fd, data, answer, begin, (uint64_t)(end - answer));
    }
    pthread_mutex_unlock(&placing);
    return answer;
}

static ssize_t wrote_at(int fd, const void *data, size_t length, off_t offset) {
    if (!watched(fd)) return raw(SYS_pwrite64, fd, data, length, offset);
    BEGIN;
    return wrote(fd, data, raw(SYS_pwrite64, fd, data, length, offset), begin, (uint64_t)offset);
}

ssize_t pwrite(int fd, const void *data, size_t length, off_t offset) { return wrote_at(fd, data, length, offset); }
ssize_t pwrite64(int fd, const void *data, size_t length, off64_t offset) { return wrote_at(fd, data, length, offset); }

/* Several pieces become one write of all of them. */
static char *joined(const struct iovec *pieces, int count, size_t *length) {
    *length = 0;
    for (int i = 0; i < count; i++) *length += pieces[i].iov_len;
    char *all = malloc(*length ? *length : 1), *to = all;
    if (!all) fail("out of memory");
    for (int i = 0; i < count; i++) to = (char *)memcpy(to, pieces[i].iov_base, pieces[i].iov_len) + pieces[i].iov_len;
    return all;
}

ssize_t writev(int fd, const struct iovec *pieces, int count) {
    if (!watched(fd)) return raw(SYS_writev, fd, pieces, count);
    size_t length;
    char *all = joined(pieces, count, &length);
    ssize_t answer = write(fd, all, length);
    KEEPING_ERRNO(free(all));
    return answer;
}

static ssize_t wrote_pieces_at(int fd, const struct iovec *pieces, int count, off_t offset) {
    size_t length;
    char *all = joined(pieces, count, &length);
    ssize_t answer = wrote_at(fd, all, length, offset);
    KEEPING_ERRNO(free(all));
    return answer;
}

ssize_t pwritev(int fd, const struct iovec *pieces, int count, off_t offset) {
    return wrote_pieces_at(fd, pieces, count, offset);
}
ssize_t pwritev64(int fd, const struct iovec *pieces, int count, off64_t offset) {
    return wrote_pieces_at(fd, pieces, count, offset);
}

static int truncated(int fd, off_t length) {
    if (!watched(fd)) return (int)raw(SYS_ftruncate, fd, length);
    BEGIN;
    int answer = (int)raw(SYS_ftruncate, fd, length);
    if (!answer) KEEPING_ERRNO(note('T', begin, inode_of(fd, 0), 0, (uint64_t)length, 0, 0, 0, 0, 0));
    return answer;
}
int ftruncate(int fd, off_t length) { return truncated(fd, length); }
int ftruncate64(int fd, off64_t length) { return truncated(fd, length); }

static int allocated(int fd, int mode, off_t offset, off_t length) {
    if (!watched(fd)) return (int)raw(SYS_fallocate, fd, mode, offset, length);
    if (mode) fail("fallocate with a mode");
    BEGIN;
    int answer = (int)raw(SYS_fallocate, fd, mode, offset, length);
    if (!answer) KEEPING_ERRNO(note('F', begin, inode_of(fd, 0), (uint64_t)offset, (uint64_t)length, 0, 0, 0, 0, 0));
    return answer;
}
int fallocate(int fd, int mode, off_t offset, off_t length) { return allocated(fd, mode, offset, length); }
int fallocate64(int fd, int mode, off64_t offset, off64_t length) { return allocated(fd, mode, offset, length); }
int posix_fallocate(int fd, off_t offset, off_t length) { return allocated(fd, 0, offset, length) ? errno : 0; }
int posix_fallocate64(int fd, off64_t offset, off64_t length) { return allocated(fd, 0, offset, length) ? errno : 0; }

/* -- syncing ----------------------------------------------------------------------------------------------------------------- */

static int synced(int fd, long number) {
    if (!watched(fd)) return (int)raw(number, fd);
    BEGIN;
    int answer = (int)raw(number, fd);
    if (!answer) KEEPING_ERRNO(note('S', begin, inode_of(fd, 0), 0, 0, number == SYS_fdatasync, 0, 0, 0, 0));
    return answer;
}
int fsync(int fd) { return synced(fd, SYS_fsync); }
int fdatasync(int fd) { return synced(fd, SYS_fdatasync); }

int sync_file_range(int fd, off64_t offset, off64_t length, unsigned flags) {
    if (!watched(fd)) return (int)raw(SYS_sync_file_range, fd, offset, length, flags);
    BEGIN;
    int answer = (int)raw(SYS_sync_file_range, fd, offset, length, flags);
    if (!answer)
        KEEPING_ERRNO(note('R', begin, inode_of(fd, 0), (uint64_t)offset, (uint64_t)length, flags, 0, 0, 0, 0));
    return answer;
}

/* -- names ------------------------------------------------------------------------------------------------------------------- */

static int renamed(int from_folder, const char *from, int to_folder, const char *to) {
    char old[PLACE], new[PLACE];
    int from_here = whole_path(from_folder, from, old), to_here = whole_path(to_folder, to, new);
    if (!from_here && !to_here) return (int)raw(SYS_renameat2, from_folder, from, to_folder, to, 0);
    if (!from_here || !to_here) fail("a rename across the recorded folder");
    BEGIN;
    int answer = (int)raw(SYS_renameat2, from_folder, from, to_folder, to, 0);
    if (!answer) KEEPING_ERRNO(note('N', begin, 0, 0, 0, 0, old, new, 0, 0));
    return answer;
}
int rename(const char *from, const char *to) { return renamed(AT_FDCWD, from, AT_FDCWD, to); }
int renameat(int from_folder, const char *from, int to_folder, const char *to) {
    return renamed(from_folder, from, to_folder, to);
}
int renameat2(int from_folder, const char *from, int to_folder, const char *to, unsigned flags) {
    char path[PLACE];
    if (flags && (whole_path(from_folder, from, path) || whole_path(to_folder, to, path))) fail("renameat2 with flags");
    if (flags) return (int)raw(SYS_renameat2, from_folder, from, to_folder, to, flags);
    return renamed(from_folder, from, to_folder, to);
}

static int removed(int folder, const char *path, int flags) {
    char whole[PLACE];
    if (!whole_path(folder, path, whole)) return (int)raw(SYS_unlinkat, folder, path, flags);
    BEGIN;
    int answer = (int)raw(SYS_unlinkat, folder, path, flags);
    if (!answer) KEEPING_ERRNO(note('U', begin, 0, 0, 0, 0, whole, 0, 0, 0));
    return answer;
}
int unlink(const char *path) { return removed(AT_FDCWD, path, 0); }
int unlinkat(int folder, const char *path, int flags) { return removed(folder, path, flags); }
int rmdir(const char *path) { return removed(AT_FDCWD, path, AT_REMOVEDIR); }

int mkdirat(int folder, const char *path, mode_t mode) {
    char whole[PLACE];
    if (!whole_path(folder, path, whole)) return (int)raw(SYS_mkdirat, folder, path, mode);
    BEGIN;
    int answer = (int)raw(SYS_mkdirat, folder, path, mode);
    if (!answer) KEEPING_ERRNO(note('M', begin, 0, 0, 0, 0, whole, 0, 0, 0));
    return answer;
}
int mkdir(const char *path, mode_t mode) { return mkdirat(AT_FDCWD, path, mode); }

/* -- what is not recorded ends the process ------------------------------------------------------------------------------------- */

#define REFUSED_PATH(signature, type, path, pass) \
    signature { \
        char whole[PLACE]; \
        if (whole_path(AT_FDCWD, path, whole)) fail(__func__); \
        NEXT(type, __func__); \
        return next pass; \
    }
#define REFUSED_FD(signature, type, fd, pass) \
    signature { \
        if (watched(fd)) fail(__func__); \
        NEXT(type, __func__); \
        return next pass; \
    }

REFUSED_PATH(FILE *fopen(const char *path, const char *mode), FILE *(*)(const char *, const char *), path, (path, mode))
REFUSED_PATH(FILE *fopen64(const char *path, const char *mode), FILE *(*)(const char *, const char *), path, (path, mode))
REFUSED_PATH(int truncate(const char *path, off_t length), int (*)(const char *, off_t), path, (path, length))
REFUSED_PATH(int truncate64(const char *path, off64_t length), int (*)(const char *, off64_t), path, (path, length))
REFUSED_PATH(int remove(const char *path), int (*)(const char *), path, (path))
REFUSED_PATH(int link(const char *from, const char *to), int (*)(const char *, const char *), to, (from, to))
REFUSED_PATH(int symlink(const char *from, const char *to), int (*)(const char *, const char *), to, (from, to))
int linkat(int from_folder, const char *from, int to_folder, const char *to, int flags) {
    char whole[PLACE];
    if (whole_path(to_folder, to, whole)) fail(__func__);
    return (int)raw(SYS_linkat, from_folder, from, to_folder, to, flags);
}
int symlinkat(const char *from, int folder, const char *to) {
    char whole[PLACE];
    if (whole_path(folder, to, whole)) fail(__func__);
    return (int)raw(SYS_symlinkat, from, folder, to);
}
REFUSED_FD(int syncfs(int fd), int (*)(int), fd, (fd))
REFUSED_FD(ssize_t pwritev2(int fd, const struct iovec *pieces, int count, off_t offset, int flags),
           ssize_t (*)(int, const struct iovec *, int, off_t, int), fd, (fd, pieces, count, offset, flags))
REFUSED_FD(ssize_t pwritev64v2(int fd, const struct iovec *pieces, int count, off64_t offset, int flags),
           ssize_t (*)(int, const struct iovec *, int, off64_t, int), fd, (fd, pieces, count, offset, flags))
REFUSED_FD(ssize_t copy_file_range(int from, off64_t *at, int to, off64_t *put, size_t length, unsigned flags),
           ssize_t (*)(int, off64_t *, int, off64_t *, size_t, unsigned), to, (from, at, to, put, length, flags))
REFUSED_FD(ssize_t sendfile(int to, int from, off_t *at, size_t length), ssize_t (*)(int, int, off_t *, size_t), to,
           (to, from, at, length))
REFUSED_FD(ssize_t sendfile64(int to, int from, off64_t *at, size_t length), ssize_t (*)(int, int, off64_t *, size_t), to,
           (to, from, at, length))
REFUSED_FD(ssize_t splice(int from, off64_t *at, int to, off64_t *put, size_t length, unsigned flags),
           ssize_t (*)(int, off64_t *, int, off64_t *, size_t, unsigned), to, (from, at, to, put, length, flags))
REFUSED_FD(int aio_write(struct aiocb *what), int (*)(struct aiocb *), what->aio_fildes, (what))
REFUSED_FD(int aio_write64(struct aiocb64 *what), int (*)(struct aiocb64 *), what->aio_fildes, (what))

static void *mapped(void *at, size_t length, int protection, int flags, int fd, off_t offset) {
    if (!(flags & MAP_ANONYMOUS) && (flags & MAP_SHARED) && watched(fd)) fail("mmap of a shared file");
    return (void *)raw(SYS_mmap, at, length, protection, flags, fd, offset);
}
void *mmap(void *at, size_t length, int protection, int flags, int fd, off_t offset) {
    return mapped(at, length, protection, flags, fd, offset);
}
void *mmap64(void *at, size_t length, int protection, int flags, int fd, off64_t offset) {
    return mapped(at, length, protection, flags, fd, offset);
}

long syscall(long number, ...) {
    va_list more;
    va_start(more, number);
    long a = va_arg(more, long), b = va_arg(more, long), c = va_arg(more, long);
    long d = va_arg(more, long), e = va_arg(more, long), f = va_arg(more, long);
    va_end(more);
    if (trace >= 0) switch (number) {
        case SYS_io_uring_setup:
            fail("io_uring");
        case SYS_write: case SYS_pwrite64: case SYS_writev: case SYS_pwritev: case SYS_pwritev2: case SYS_ftruncate:
        case SYS_fallocate: case SYS_fsync: case SYS_fdatasync: case SYS_sync_file_range:
            if (watched((int)a)) fail("a raw system call that changes a recorded file");
    }
    return raw(number, a, b, c, d, e, f);
}
