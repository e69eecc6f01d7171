/* latch.h - an HDF5 file driver whose writes never fail, but are remembered to have failed.
 *
 * HDF5 1.10 cannot close a file whose last writes failed (a full disk): the file stays open inside
 * the library, and its exit handler then works on freed memory. So the writer's files go through
 * this driver: after the first failure nothing is written any more and HDF5 is told that all is
 * well; whoever writes looks at the latch, and at last after closing. The file is worthless then.
 */
#ifndef CRIA_DATA_STORE_LATCH_H
#define CRIA_DATA_STORE_LATCH_H

#include <hdf5.h>

struct latch {
    int failed; /* the errno of the first failure; 0: none */
};

/* Makes files created under the access list `list` go through the driver and into `latch`, which
 * outlives them. Negative on failure, as HDF5 does. */
herr_t latch_install(hid_t list, struct latch *latch);

#endif
