// Calls itself, in turns by name and by way of a table, and says what came of
// it: deep N. It goes N functions deeper than at N = 0.
#include <stdio.h>
#include <stdlib.h>

typedef unsigned (*again)(unsigned);

static again volatile by_table;

__attribute__((noinline)) static unsigned step(unsigned n) {
	unsigned more;
	if (n == 0)
		return 1;
	if (n % 3 == 0) {
		more = by_table(n - 1);
		return more * 7 + n; // out of the middle
	}
	more = step(n - 1);
	switch (more % 4) {
	case 0:
		return more + 1;
	case 1:
		break;
	default:
		more ^= n;
	}
	return more * 5;
}

static int larger(const void *a, const void *b) {
	unsigned x = *(const unsigned *)a, y = *(const unsigned *)b;
	return (x > y) - (x < y);
}

int main(int argc, char **argv) {
	unsigned n = argc > 1 ? atoi(argv[1]) : 0, list[64];
	by_table = step;
	for (unsigned i = 0; i < 64; i++)
		list[i] = step(i * 37 % 64);
	qsort(list, 64, sizeof list[0], larger);
	printf("%u %u %u\n", step(n), list[0], list[63]);
	return 0;
}
