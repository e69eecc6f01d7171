/* inference.h - a model that answers: engine, tokenizer, template and sampler, opened together. */
#ifndef CRIA_RUN_INFERENCE_H
#define CRIA_RUN_INFERENCE_H

#include <stdatomic.h>

#include "data/samples/encode.h"
#include "run/adapter_dir.h"
#include "run/generate.h"

struct inference_options {
    const char *model;    /* directory */
    const char *adapter;  /* NULL: none */
    const char *template; /* NULL: what cria.json beside the adapter or model says */
    int raw;              /* no template: text is continued as it is */
    const char *device;   /* "auto", "cpu", "cuda"; NULL: the CPU */
    int threads;
    int64_t max_new_tokens;
    int64_t context; /* tokens of prompt and answer; 0: the model's max_position_embeddings */
    struct sampler_options sampling;
    /* evaluation of preferences */
    int pairs;
    enum engine_reference reference;
    const char *reference_dir; /* of the model or adapter, where `reference` is one */
};

struct inference {
    struct model_config config;
    struct adapter_dir adapter;
    struct tokenizer *tokenizer;
    const struct template *template; /* NULL: raw */
    struct encoder *encoder;
    struct engine engine;
    struct sampler sampler;
    struct generate_options generate;
    int raw;
};

/* ERR_CONFIG (no such template; none known and not raw), and what loading can fail with. After a
 * failure inference_close is still due. */
MUST_CHECK enum status inference_open(struct inference *f, const struct inference_options *o,
                                      struct err *e);

/* The same in two halves, for who must read data before the engine's size is known: all but the
 * engine; then the engine, which can also evaluate micro-batches up to `limits` of documents up to
 * `max_length` tokens (NULL: it only answers). */
MUST_CHECK enum status inference_open_text(struct inference *f, const struct inference_options *o,
                                           struct err *e);
MUST_CHECK enum status inference_open_engine(struct inference *f, const struct inference_options *o,
                                             const struct loader_limits *limits, int32_t max_length,
                                             struct err *e);
void inference_close(struct inference *f);

/* Ids of the prompt: `c` through the template; raw text with BOS as the tokenizer says (BOS alone
 * for an empty text). Appended to `out`. ERR_DATA, ERR_MEMORY, ERR_CONFIG. */
MUST_CHECK enum status inference_prompt(struct inference *f, const struct conversation *c,
                                        struct id_list *out, struct err *e);
MUST_CHECK enum status inference_raw_prompt(struct inference *f, const char *text,
                                            struct id_list *out, struct err *e);

/* Continues the prompt: generate() with this model, sampler and stops. */
MUST_CHECK enum status inference_tokens(struct inference *f, const struct id_list *prompt,
                                        uint64_t sequence, generate_listener *listen, void *context,
                                        struct id_list *out, enum generate_end *end, struct err *e);

/* Answers, printing nothing: the decoded text is appended to `text`. Who wants it token by token
 * hears of it as it comes, in whole characters. Where a model writes bytes that are no UTF-8, both
 * have U+FFFD, but not always as many: some decoders replace a whole run of single bytes.
 * `stop` set to nonzero, by a signal say, ends the answer (GENERATE_LISTENER). */
struct inference_answer {
    struct buf *text;
    void (*grown)(void *context, const char *bytes, size_t n); /* NULL: nobody */
    void *context;
    const atomic_int *stop; /* NULL: nobody stops it */
    enum generate_end end;
};
MUST_CHECK enum status inference_answer(struct inference *f, const struct id_list *prompt,
                                        uint64_t sequence, struct inference_answer *a,
                                        struct err *e);

/* Every record of a dataset file answered: a JSON line {"prompt", "response", "reference"?} each in
 * `out_path`. A prompt that does not fit the context gets the response null, and the log says how
 * many did. `told` (NULL) hears of every answer, and what share of the file is done. ERR_DATA,
 * ERR_FORMAT, ERR_IO, ... */
MUST_CHECK enum status inference_file(struct inference *f, const char *data, const char *out_path,
                                      void (*told)(void *context, int64_t done, double share),
                                      void *context, struct err *e);

#endif
