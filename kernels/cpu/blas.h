/* blas.h - <cblas.h> without what it drags in: OpenBLAS includes <complex.h>, whose I is our I. */
#ifndef CRIA_KERNELS_CPU_BLAS_H
#define CRIA_KERNELS_CPU_BLAS_H

#include <cblas.h>
#undef I

#endif
