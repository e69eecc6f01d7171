/* text.h - what the base reads: plain text in which what was said is said again.
 *
 * Reading a value back out of the context is learned in phases, in this order only (the mixture
 * alone gives a base that never learns it): first word lists repeated, lists of pairs repeated in
 * another order, stories restated; then these less often, beside stories and lists embedded in
 * sentences without a meaning; then mostly stories recalled. Those sentences use the words of the
 * template and of the instructions, one by one at random: the base knows the words, but has seen
 * neither template nor instruction.
 */
#ifndef CRIA_QUICKSTART_TEXT_H
#define CRIA_QUICKSTART_TEXT_H

#include "draw.h"
#include "page.h"

enum text_phase { TEXT_REPEATS, TEXT_MIXTURE, TEXT_RECALL };

/* A document: pieces behind each other, up to about 600 characters. */
void text_draw(struct draw *d, enum text_phase phase, struct page *out);

#endif
