/* What a program can see and reach from inside a container, without the help of any program of the image.
 *
 *     probe show FILE...      prints the files
 *     probe loaded            prints "loaded" (to be executed in the strangest ways)
 *     probe write FILE        opens FILE for writing and prints the errno, 0 if that went well; then the same
 *                             of access(2), which does not mind that FILE is being executed
 *     probe hunt SECONDS WORD WORD
 *                             watches /proc for new processes, opens whatever their links lead to, looks for the
 *                             first word in their command lines and for the second in their environments; prints
 *                             what is not of the container, and at the end how much it saw
 *     probe swap ONE OTHER    exchanges two files, without a pause, until it is killed
 */

#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* A hundred findings are enough; more would fill the pipe of a reader who waits for the end. */
static long findings;
#define FOUND(...) (findings++ < 100 ? printf("found " __VA_ARGS__) : 0)

static int show(char **files)
{
	for (; *files; files++) {
		static char data[65536];
		int fd = open(*files, O_RDONLY);
		long got;
		if (fd < 0)
			return 1;
		while ((got = read(fd, data, sizeof(data))) > 0)
			if (write(1, data, got) < 0)
				return 1;
		close(fd);
	}
	return 0;
}

/* What one link leads to; the root and what is of the container's own devices are no news. */
static void look(const char *pid, const char *name, dev_t own)
{
	static char path[300], target[4096];
	struct stat info;
	long length;
	int fd;

	snprintf(path, sizeof(path), "/proc/%s/%s", pid, name);
	length = readlink(path, target, sizeof(target) - 1);
	if (length < 0)
		return;
	target[length] = 0;
	/* The sealed last step, see packaging/init/init.c. */
	if (!strncmp(target, "/memfd:exec ", 12))
		return;
	fd = open(path, O_PATH);
	if (fd < 0)
		return;
	if (fstat(fd, &info) == 0 && (S_ISDIR(info.st_mode) || S_ISREG(info.st_mode)) && info.st_dev != own)
		FOUND("%s/%s -> %s\n", pid, name, target);
	close(fd);
}

static void look_at_all(const char *pid, dev_t own, char **marks)
{
	static char path[300], text[4096];
	DIR *directory;
	struct dirent *entry;
	int fd;

	look(pid, "root", own);
	look(pid, "cwd", own);
	look(pid, "exe", own);
	snprintf(path, sizeof(path), "/proc/%s/fd", pid);
	directory = opendir(path);
	while (directory && (entry = readdir(directory))) {
		snprintf(path, sizeof(path), "fd/%s", entry->d_name);
		if (entry->d_name[0] != '.')
			look(pid, path, own);
	}
	if (directory)
		closedir(directory);
	for (int i = 0; i < 2; i++) {
		snprintf(path, sizeof(path), "/proc/%s/%s", pid, i ? "environ" : "cmdline");
		fd = open(path, O_RDONLY);
		if (fd < 0)
			continue;
		long got = read(fd, text, sizeof(text));
		if (got > 0 && memmem(text, got, marks[i], strlen(marks[i])))
			FOUND("%s\n", path);
		close(fd);
	}
}

static int hunt(int seconds, char **marks)
{
	time_t end = time(NULL) + seconds;
	long seen = 0, rounds = 0;
	struct stat root;

	stat("/", &root);
	while (time(NULL) < end) {
		DIR *proc = opendir("/proc");
		struct dirent *entry;
		while (proc && (entry = readdir(proc)))
			if (entry->d_name[0] >= '1' && entry->d_name[0] <= '9' && atoi(entry->d_name) != getpid()) {
				seen += atoi(entry->d_name) != 1;
				look_at_all(entry->d_name, root.st_dev, marks);
			}
		if (proc)
			closedir(proc);
		rounds++;
	}
	printf("seen %ld in %ld\n", seen, rounds);
	return 0;
}

static int swap(const char *one, const char *other)
{
	while (!renameat2(AT_FDCWD, one, AT_FDCWD, other, RENAME_EXCHANGE))
		;
	perror("renameat2");
	return 1;
}

int main(int count, char **arguments)
{
	if (count > 2 && !strcmp(arguments[1], "show"))
		return show(arguments + 2);
	if (count > 4 && !strcmp(arguments[1], "hunt"))
		return hunt(atoi(arguments[2]), arguments + 3);
	if (count > 3 && !strcmp(arguments[1], "swap"))
		return swap(arguments[2], arguments[3]);
	/* Not always the first word: an interpreter gets the script's name before it. */
	for (int i = 1; i + 1 < count; i++)
		if (!strcmp(arguments[i], "write")) {
			int fd = open(arguments[i + 1], O_WRONLY);
			printf("%d", fd < 0 ? errno : 0);
			printf(" %d\n", access(arguments[i + 1], W_OK) ? errno : 0);
			return 0;
		}
	printf("loaded\n");
	return 0;
}
