/* language.h - which language a text is in, as CLD2 tells (as FastChat does, through polyglot).
 *
 * CLD2 is optional when cria is built (libcld2-dev and a C++ compiler); without it nothing is
 * detected and language_available is 0. The CLD2 of Debian (2015) is not quite the one in pycld2
 * 0.42: of 16,222 conversations and instructions of the shared data 0.65 % get another code, most
 * of them short or mixed.
 */
#ifndef CRIA_DATA_CLEAN_LANGUAGE_H
#define CRIA_DATA_CLEAN_LANGUAGE_H

#include "data/formats/conversation.h"

#define LANGUAGE_CODE_SIZE 16
#define LANGUAGE_UNKNOWN "unknown" /* too short, or no language */

int language_available(void);

/* Whether CLD2 has a language of that code ("en", "ko", "zh", "zh-Hant"). */
int language_exists(const char *code);

/* The code of the language that most of the text is in. When CLD2 is not sure it is asked for its
 * best guess; when it is not sure of that either, or the text holds what no text should (control
 * characters), LANGUAGE_UNKNOWN. Threads may call it at once. */
void language_detect(struct text t, char code[LANGUAGE_CODE_SIZE]);

#endif
