/* cli.h - the command line: verbs, their options, and how errors and progress look.
 *
 * One file a verb (verb_*.c), one row a verb (main.c). A verb parses its options with
 * cli_parse, does its work through run/, and returns a status; main turns that into a message on
 * stderr and an exit code. Results go to stdout, all else to stderr.
 */
#ifndef CRIA_CLI_CLI_H
#define CRIA_CLI_CLI_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

struct cli_verb {
    const char *name;
    const char *usage;   /* what follows "cria NAME" */
    const char *summary; /* one line */
    enum status (*run)(const struct cli_verb *verb, int argc, char **argv, struct err *e);
};

enum cli_kind { CLI_TEXT, CLI_INT, CLI_REAL, CLI_FLAG }; /* const char *, int64_t, double, int */

struct cli_option {
    const char *name; /* "--model" */
    enum cli_kind kind;
    void *out;
    const char *value; /* "DIR", for help; NULL: a flag */
    const char *help;
    int given; /* set by cli_parse */
};

#define CLI_POSITIONALS_MAX 256

struct cli_args {
    struct cli_option *options;
    size_t num_options;
    const char *about; /* paragraphs for --help, after the usage; NULL */
    const char *positional[CLI_POSITIONALS_MAX];
    size_t num_positional;
    int help; /* --help was given and answered: there is nothing more to do */
};

/* argv[0..argc) behind the verb. Accepts --name value and --name=value; "--" ends options.
 * ERR_CONFIG: an unknown option (the nearest is suggested), a missing or malformed value. */
MUST_CHECK enum status cli_parse(const struct cli_verb *verb, struct cli_args *args, int argc,
                                 char **argv, struct err *e);

/* ERR_CONFIG unless the option was given. */
MUST_CHECK enum status cli_require(const struct cli_verb *verb, const struct cli_args *args,
                                   const char *name, struct err *e);

/* The config of "CONFIG [key=value ...]" in args. ERR_CONFIG when nothing is given, and what
 * config_load returns. */
struct config;
MUST_CHECK enum status cli_load_config(const struct cli_verb *verb, const struct cli_args *args,
                                       struct config *out, struct err *e);

/* What the preflight found, as warnings on stderr. */
struct preflight;
void cli_say_findings(const struct preflight *f);

extern const struct cli_verb cli_verbs[]; /* ends with a NULL name */

enum status verb_prepare(const struct cli_verb *v, int argc, char **argv, struct err *e);
enum status verb_clean(const struct cli_verb *v, int argc, char **argv, struct err *e);
enum status verb_doctor(const struct cli_verb *v, int argc, char **argv, struct err *e);
enum status verb_plan(const struct cli_verb *v, int argc, char **argv, struct err *e);
enum status verb_train(const struct cli_verb *v, int argc, char **argv, struct err *e);
enum status verb_chat(const struct cli_verb *v, int argc, char **argv, struct err *e);
enum status verb_eval(const struct cli_verb *v, int argc, char **argv, struct err *e);
enum status verb_generate(const struct cli_verb *v, int argc, char **argv, struct err *e);
enum status verb_merge(const struct cli_verb *v, int argc, char **argv, struct err *e);
enum status verb_init(const struct cli_verb *v, int argc, char **argv, struct err *e);
enum status verb_inspect(const struct cli_verb *v, int argc, char **argv, struct err *e);
enum status verb_tokenize(const struct cli_verb *v, int argc, char **argv, struct err *e);

#endif
