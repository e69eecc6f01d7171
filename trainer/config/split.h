/* split.h - a dataset's split, and datasets that are folders. Private to config/.
 *
 * A file is its own split `train`, as load_dataset("json", data_files=FILE) has it, or one that its
 * name says. A folder becomes its files of the split, by the names that Hugging Face's datasets
 * looks for: train.jsonl, train-00000-of-00002.json, my_train.csv, in the folder, in its data/, or
 * any name in train/. Without a split: `train` to train on, `validation` to evaluate on, or the
 * only file there is. Several files are datasets of the same description, in the order of their
 * names.
 */
#ifndef CRIA_CONFIG_SPLIT_H
#define CRIA_CONFIG_SPLIT_H

#include "config/config.h"

/* Replaces folders in datasets and eval_dataset by files; no split is left. ERR_CONFIG: no such
 * split or file, a weight or max_samples for several files; ERR_UNSUPPORTED: a part of a split;
 * ERR_IO; ERR_MEMORY. */
MUST_CHECK enum status config_resolve_splits(struct config *c, struct err *e);

#endif
