/* cld2.h - the door to CLD2, a C++ library: two functions of cld2.cpp; private to language.c. */
#ifndef CRIA_DATA_CLEAN_CLD2_H
#define CRIA_DATA_CLEAN_CLD2_H

#ifdef __cplusplus
extern "C" {
#endif

/* The first language's code (static), NULL for text that is not fit to be read; *sure as CLD2 has
 * it. The text is read as HTML, as pycld2 does. */
const char *cld2_detect(const char *text, int size, int best_effort, int *sure);

int cld2_exists(const char *code);

#ifdef __cplusplus
}
#endif

#endif
