#include "run/output.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "ckpt/commit.h"
#include "ckpt/peft.h"
#include "ckpt/trainer_state.h"
#include "run/report.h"
#include "run/step_profile.h"
#include "run/tensorboard.h"
#include "run/trace_file.h"

int output_has_file(const char *dir, const char *name)
{
    char path[IO_PATH_MAX];
    struct err ignored = {0};
    return !io_join(path, sizeof path, dir, name, &ignored) && io_exists(path);
}

static int holds_something(const char *dir)
{
    int entries = 0;
    struct dirent *d;
    DIR *handle = opendir(dir);
    while (handle && (d = readdir(handle))) entries += d->d_name[0] != '.';
    if (handle) closedir(handle);
    return entries > 0;
}

static enum status find_checkpoint(struct session *s, struct err *e)
{
    const char *resume = s->config->resume_from_checkpoint;
    int64_t step = -1;
    if (!resume) return OK;
    if (strcmp(resume, "auto")) {
        if (!io_is_dir(resume)) {
            config_fail(s->config, KEY_resume_from_checkpoint, e, "no directory %s", resume);
            return err_hint(e, "auto takes the newest checkpoint in output_dir, if there is one");
        }
        snprintf(s->resume, sizeof s->resume, "%s", resume);
        return OK;
    }
    TRY(commit_recover(s->config->output_dir, e));
    TRY(commit_newest(s->config->output_dir, &step, e));
    return step < 0 ? OK : commit_path(s->resume, sizeof s->resume, s->config->output_dir, step, e);
}

/* What a run leaves in output_dir beside checkpoints; all else is not ours to remove. */
static const char *const left_by_a_run[] = {
    PEFT_CONFIG_FILE,
    "adapter_model.safetensors",
    "config.json",
    "model.safetensors",
    "model.safetensors.index.json",
    "cria.json",
    TRAINER_STATE_FILE,
    METRICS_FILE,
    RESOLVED_FILE,
    REPORT_FILE,
    ANSWERS_FILE,
    STEP_PROFILE_FILE,
    TRACE_FILE,
};

/* The event files of a run, and their directory if nothing else is in it. */
static enum status remove_events(const char *output_dir, struct err *e)
{
    char dir[IO_PATH_MAX], path[IO_PATH_MAX];
    struct dirent *d;
    TRY(io_join(dir, sizeof dir, output_dir, TENSORBOARD_DIR, e));
    DIR *handle = opendir(dir);
    enum status status = OK;
    while (!status && handle && (d = readdir(handle))) {
        if (strncmp(d->d_name, TENSORBOARD_PREFIX, strlen(TENSORBOARD_PREFIX))) continue;
        status = io_join(path, sizeof path, dir, d->d_name, e);
        if (!status && unlink(path)) status = err_errno(e, "%s", path);
    }
    if (handle) closedir(handle);
    if (handle && !status) rmdir(dir); /* not empty: others keep something there */
    return status;
}

static enum status remove_run(const char *dir, struct err *e)
{
    int64_t *steps = NULL;
    size_t n;
    char path[IO_PATH_MAX];
    TRY(commit_recover(dir, e));
    enum status status = commit_list(dir, &steps, &n, e);
    for (size_t i = 0; !status && i < n; i++) {
        status = commit_path(path, sizeof path, dir, steps[i], e);
        if (!status) status = io_remove_tree(path, e);
    }
    mem_free(steps);
    if (!status) status = io_join(path, sizeof path, dir, BASE_DIR, e);
    if (!status && output_has_file(path, "cria.json")) status = io_remove_tree(path, e);
    if (!status) status = remove_events(dir, e);
    for (size_t i = 0; !status && i < sizeof left_by_a_run / sizeof *left_by_a_run; i++) {
        status = io_join(path, sizeof path, dir, left_by_a_run[i], e);
        if (!status && unlink(path) && errno != ENOENT) status = err_errno(e, "%s", path);
    }
    return status;
}

/* A run began here and did not end: the first file it writes is there, the last is not. */
static int is_unfinished(const char *dir)
{
    return (output_has_file(dir, RESOLVED_FILE) || output_has_file(dir, RESOLVED_FILE ".tmp")) &&
           !output_has_file(dir, TRAINER_STATE_FILE);
}

enum status output_check(struct session *s, struct err *e)
{
    const struct config *c = s->config;
    if (io_same(c->output_dir, c->model_name_or_path)) {
        config_fail(c, KEY_output_dir, e, "%s is the base model's own directory", c->output_dir);
        return err_hint(e, "give a directory of its own to the run");
    }
    if (io_exists(c->output_dir) && !io_is_dir(c->output_dir)) {
        config_fail(c, KEY_output_dir, e, "%s is a file", c->output_dir);
        return err_hint(e, "give a directory; it is made if it is not there");
    }
    TRY(find_checkpoint(s, e));
    if (s->resume[0] || !holds_something(c->output_dir)) return OK;
    if (c->overwrite_output_dir) return OK;
    if (c->resume_from_checkpoint && is_unfinished(c->output_dir)) return OK;
    config_fail(c, KEY_output_dir, e, "%s is not empty", c->output_dir);
    return err_hint(e, "resume_from_checkpoint: auto goes on with it, overwrite_output_dir: true "
                       "removes it, another output_dir leaves it alone");
}

enum status output_clear(struct session *s, struct err *e)
{
    const struct config *c = s->config;
    if (s->resume[0] || !holds_something(c->output_dir)) return OK;
    if (!c->overwrite_output_dir)
        log_notice("%s has no checkpoint yet: the run starts anew", c->output_dir);
    return remove_run(c->output_dir, e);
}
