/* turn.h - columns of one matrix from rows of another, and back.
 *
 * With AVX-512 sixteen lines at once go through registers, else four. Values are only moved and
 * multiplied by a scale, so every level gives the same bits.
 */
#ifndef CRIA_KERNELS_CPU_TURN_H
#define CRIA_KERNELS_CPU_TURN_H

#include <stddef.h>
#include <stdint.h>

enum { TURN_LINES_MOST = 16 };

/* How many lines the two below take at once: 4 or 16. */
int32_t cpu_turn_lines(void);

/* to[k * ld + i] = scale from[i][k]; k < n, i < cpu_turn_lines() */
void cpu_turn_in(float *to, size_t ld, const float *const *from, int32_t n, float scale);

/* to[i][k] = scale[i] from[k * ld + i] */
void cpu_turn_out(float *const *to, const float *from, size_t ld, int32_t n, const float *scale);

/* to[c * ld_to + r] = from[r * ld_from + c]; r < rows, c < columns, any numbers of them */
void cpu_turn(float *to, size_t ld_to, const float *from, size_t ld_from, int32_t rows,
              int32_t columns);

#endif
