/* Makes system calls exactly as told and prints the errno of each, 0 for success.
 *
 *     syscalls ABI:NUMBER[:ARGUMENT,...] ...
 *
 * ABI is 64 (the syscall instruction), x32 (the same with bit 30 set in the number) or 32 (int $0x80).
 * An argument is a number, `p` for a pointer to a page of zeros, `s` for one to "proc", or `[a;b;...]`
 * for one to an array of 32-bit words, as socketcall(2) takes its arguments.
 *
 * No C library, so that nothing but the wanted calls is made; linked statically at a low address, so
 * that pointers fit into the 32-bit calls too. x86_64 only.
 */

typedef unsigned long word;

static char page[4096] __attribute__((aligned(4096)));
static char text[] = "proc";
static unsigned array[64];
static unsigned used;

static long call64(word number, word *a)
{
	long result;
	register word r10 __asm__("r10") = a[3], r8 __asm__("r8") = a[4], r9 __asm__("r9") = a[5];
	__asm__ volatile("syscall"
			 : "=a"(result)
			 : "a"(number), "D"(a[0]), "S"(a[1]), "d"(a[2]), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	return result;
}

static long call32(word number, word *a)
{
	int result;
	__asm__ volatile("push %%rbp; mov %7, %%ebp; int $0x80; pop %%rbp"
			 : "=a"(result)
			 : "a"((unsigned)number), "b"((unsigned)a[0]), "c"((unsigned)a[1]), "d"((unsigned)a[2]),
			   "S"((unsigned)a[3]), "D"((unsigned)a[4]), "r"((unsigned)a[5])
			 : "r8", "r9", "r10", "r11", "memory");
	return result;
}

static word number(const char **at)
{
	const char *p = *at;
	word value = 0, base = 10;
	if (p[0] == '0' && p[1] == 'x') {
		base = 16;
		p += 2;
	}
	for (;; p++) {
		word digit = *p >= '0' && *p <= '9' ? *p - '0' : *p >= 'a' && *p <= 'f' ? *p - 'a' + 10 : 99;
		if (digit >= base)
			break;
		value = value * base + digit;
	}
	*at = p;
	return value;
}

static word argument(const char **at)
{
	if (**at == 'p') {
		(*at)++;
		return (word)page;
	}
	if (**at == 's') {
		(*at)++;
		return (word)text;
	}
	if (**at == '[') {
		word start = (word)(array + used);
		do {
			(*at)++;
			array[used++ % 64] = (unsigned)number(at);
		} while (**at == ';');
		(*at)++;
		return start;
	}
	return number(at);
}

static word none[6];

static void print(long value)
{
	char digits[24];
	int n = 24;
	digits[--n] = '\n';
	do
		digits[--n] = (char)('0' + value % 10);
	while (value /= 10);
	call64(1, (word[]){1, (word)(digits + n), 24 - n, 0, 0, 0});
}

__attribute__((used)) static void start(word *stack)
{
	word count = stack[0];
	const char **argv = (const char **)(stack + 1);
	long self = call64(39, none);
	for (word i = 1; i < count; i++) {
		const char *p = argv[i];
		int x32 = *p == 'x', abi32 = p[0] == '3';
		word a[6] = {0}, nr, n = 0;
		long result;
		while (*p != ':')
			p++;
		p++;
		used = 0;
		nr = number(&p);
		while (*p == ':' || *p == ',') {
			p++;
			a[n++ % 6] = argument(&p);
		}
		result = abi32 ? call32(nr, a) : call64(x32 ? nr | 0x40000000 : nr, a);
		/* What clone(2) has made goes away without a word. */
		if (call64(39, none) != self)
			break;
		print(result < 0 && result > -4096 ? -result : 0);
	}
	call64(231, none);
}

__asm__(".globl _start\n_start: mov %rsp, %rdi; and $-16, %rsp; call start; hlt");
