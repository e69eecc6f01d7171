/* reference.c - reference.inc in double (what is right) and in float (what plain fp32 loses). */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "kernels/codes.h"
#include "ops/ops.h"

#define REAL double
#define NAME(x) exact_##x
#define MATH(function) function
#include "ops/reference.inc"
#undef REAL
#undef NAME
#undef MATH

#define REAL float
#define NAME(x) naive_##x
#define MATH(function) function##f
#include "ops/reference.inc"
