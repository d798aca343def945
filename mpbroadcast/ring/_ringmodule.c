/* _ringmodule.c: arguments, the GIL and errors. The algorithms are in the other files and know nothing of Python. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "adopt.h"
#include "claim.h"
#include "consume.h"
#include "distribute.h"
#include "process.h"
#include "record.h"
#include "wait.h"

#define LOAD(p, order) atomic_load_explicit((p), memory_order_##order)
#define STORE(p, v, order) atomic_store_explicit((p), (v), memory_order_##order)
#define SECOND 1e9
#define NAP_NS UINT64_C(100000) /* while traffic flows: whoever has news rings nothing */

static PyObject *error; /* mpbroadcast.errors.SegmentError */

/* ---- fields of header, lanes and slots by name ------------------------------------------------------------------------ */

struct field {
    const char *name;
    size_t offset, size;
};

#define F(type, name) {#name, offsetof(struct type, name), sizeof(((struct type *)0)->name)}
static const struct field header_fields[] = {
    F(mpb_header, state), F(mpb_header, distributors), F(mpb_header, dist_streak), F(mpb_header, dist_start), F(mpb_header, dist_pid),
    F(mpb_header, dist_spare_pid), F(mpb_header, dist_spare_start), F(mpb_header, owner_start), F(mpb_header, owner_pid),
    F(mpb_header, owner_gone), F(mpb_header, grace_ns), F(mpb_header, round_ts), F(mpb_header, drain_deadline),
    F(mpb_header, created_at), F(mpb_header, lane_limit), {NULL, 0, 0}};
static const struct field lane_fields[] = {
    F(mpb_lane, claims), F(mpb_lane, problem_count), {NULL, 0, 0}};
static const struct field slot_fields[] = {
    F(mpb_slot, state), F(mpb_slot, policy), F(mpb_slot, managed), F(mpb_slot, generation), F(mpb_slot, limit),
    F(mpb_slot, prefix), F(mpb_slot, start_ts), F(mpb_slot, stop_ts), F(mpb_slot, registered_at),
    F(mpb_slot, consumer_start), F(mpb_slot, consumer_pid), F(mpb_slot, spare_pid), F(mpb_slot, spare_start),
    F(mpb_slot, try_pos), F(mpb_slot, try_count), F(mpb_slot, crash_mark), F(mpb_slot, workers), F(mpb_slot, streak), F(mpb_slot, finished),
    F(mpb_slot, handling_ns), F(mpb_slot, handed), {NULL, 0, 0}};
#undef F

static const struct field *find_field(const struct field *fields, const char *name)
{
    for (; fields->name; fields++)
        if (strcmp(fields->name, name) == 0) return fields;
    PyErr_Format(PyExc_AttributeError, "the segment has no field '%s'", name);
    return NULL;
}

static uint64_t load_field(const void *base, const struct field *f)
{
    const char *at = (const char *)base + f->offset;
    return f->size == 4 ? LOAD((const _Atomic uint32_t *)(const void *)at, seq_cst)
                        : LOAD((const _Atomic uint64_t *)(const void *)at, seq_cst);
}

static void store_field(void *base, const struct field *f, uint64_t v)
{
    char *at = (char *)base + f->offset;
    if (f->size == 4) STORE((_Atomic uint32_t *)(void *)at, (uint32_t)v, seq_cst);
    else STORE((_Atomic uint64_t *)(void *)at, v, seq_cst);
}

static int dict_set(PyObject *dict, const char *name, PyObject *value) /* steals value */
{
    int failed = !value || PyDict_SetItemString(dict, name, value) != 0;
    Py_XDECREF(value);
    return failed ? -1 : 0;
}

static int dict_fields(PyObject *dict, const void *base, const struct field *f)
{
    for (; f->name; f++)
        if (dict_set(dict, f->name, PyLong_FromUnsignedLongLong(load_field(base, f))) != 0) return -1;
    return 0;
}

/* ---- Segment ------------------------------------------------------------------------------------------------------------ */

typedef struct {
    PyObject_HEAD
    struct mpb_segment seg;
    Py_ssize_t users; /* readers, distributors and sleeping calls: while there are any, the memory stays mapped */
} Segment;

static bool is_open(Segment *self)
{
    if (self->seg.base) return true;
    PyErr_SetString(error, "the segment is closed");
    return false;
}

static bool is_writable(Segment *self)
{
    if (!is_open(self)) return false;
    if (self->seg.writable) return true;
    PyErr_SetString(error, "the segment is mapped read-only");
    return false;
}

static struct mpb_slot *slot_of(Segment *self, unsigned int j)
{
    if (!is_open(self)) return NULL;
    if (j < self->seg.nslots) return &self->seg.slots[j];
    PyErr_SetString(PyExc_IndexError, "no such watcher slot");
    return NULL;
}

static PyObject *Segment_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"fd", "writable", NULL};
    int fd, writable = 1;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "i|p", names, &fd, &writable)) return NULL;
    allocfunc alloc = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    Segment *self = (Segment *)alloc(type, 0);
    if (!self) return NULL;
    const char *why = mpb_map(&self->seg, fd, writable);
    if (why) {
        PyErr_SetString(error, why);
        Py_DECREF(self);
        return NULL;
    }
    return (PyObject *)self;
}

static void Segment_dealloc(Segment *self)
{
    PyTypeObject *type = Py_TYPE((PyObject *)self);
    mpb_unmap(&self->seg);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(self);
    Py_DECREF(type);
}

static PyObject *Segment_close(Segment *self, PyObject *Py_UNUSED(ignored))
{
    if (self->users == 0) mpb_unmap(&self->seg);
    return PyBool_FromLong(self->seg.base == NULL);
}

struct payload {
    const char *data;
    Py_ssize_t len;
    Py_buffer view;
};

static bool get_payload(PyObject *obj, struct payload *p)
{
    p->view.obj = NULL;
    if (PyBytes_Check(obj)) return PyBytes_AsStringAndSize(obj, (char **)&p->data, &p->len) == 0;
    if (PyObject_GetBuffer(obj, &p->view, PyBUF_SIMPLE) != 0) return false;
    p->data = p->view.buf;
    p->len = p->view.len;
    return true;
}

/* One attempt; the answer is counted, except that a caller who waits counts FULL only when it gives up. */
static enum mpb_refusal put_once(struct mpb_segment *seg, const struct payload *p, uint16_t kind, bool count_full)
{
    enum mpb_refusal answer;
    /* relaxed: only the early, cheap way out; the seal in the tail decides. */
    if (LOAD(&seg->header->state, relaxed) != STATE_RUNNING) {
        answer = MPB_STOPPED;
    } else {
        struct mpb_producer *lane = mpb_my_lane_or_later(seg);
        answer = lane ? mpb_put(lane, kind, seg->coarse_clock, p->data, (uint64_t)p->len, NULL, 0) : MPB_NO_LANE;
        if (answer == MPB_OK) {
            mpb_ring_bell(&seg->header->bell);
            return MPB_OK;
        }
    }
    if (answer != MPB_FULL || count_full) mpb_refuse(seg, answer, NULL, 0);
    if (answer == MPB_STOPPED) mpb_forget_lane(seg);
    return answer;
}

static int kind_of(PyObject *obj)
{
    long kind = PyLong_AsLong(obj);
    if (kind >= 0 && kind < MPB_KIND_PAD) return (int)kind;
    if (!PyErr_Occurred()) PyErr_SetString(PyExc_ValueError, "kind must be between 0 and 65534");
    return -1;
}

static PyObject *Segment_put(Segment *self, PyObject *const *args, Py_ssize_t nargs)
{
    struct payload p;
    int kind = 0;
    if (nargs < 1 || nargs > 2) {
        PyErr_SetString(PyExc_TypeError, "put(payload, kind=0) takes one or two arguments");
        return NULL;
    }
    /* The segment is looked at last: a conversion may run any Python code, and that may close it. */
    if ((nargs == 2 && (kind = kind_of(args[1])) < 0) || !get_payload(args[0], &p)) return NULL;
    bool open = is_writable(self);
    enum mpb_refusal answer = open ? put_once(&self->seg, &p, (uint16_t)kind, true) : MPB_STOPPED;
    if (p.view.obj) PyBuffer_Release(&p.view);
    return open ? PyBool_FromLong(answer == MPB_OK) : NULL;
}

/* UTF-8 of a message that may be anything str() takes; *owned keeps it alive. Lone surrogates become U+FFFD. */
static const char *message_text(PyObject *message, Py_ssize_t *len, PyObject **owned)
{
    *owned = PyUnicode_Check(message) ? Py_NewRef(message) : PyObject_Str(message);
    const char *text = *owned ? PyUnicode_AsUTF8AndSize(*owned, len) : NULL;
    if (text || !*owned || !PyErr_ExceptionMatches(PyExc_UnicodeEncodeError)) return text;
    PyErr_Clear();
    PyObject *module = PyImport_ImportModule("mpbroadcast.base.text");
    PyObject *clean = module ? PyObject_CallMethod(module, "well_formed", "O", *owned) : NULL;
    Py_XDECREF(module);
    Py_DECREF(*owned);
    *owned = clean;
    return clean ? PyUnicode_AsUTF8AndSize(clean, len) : NULL;
}

/* One event of a recorder: its constant part is encoded already, time and message are added here. */
static PyObject *Segment_record(Segment *self, PyObject *const *args, Py_ssize_t nargs)
{
    char *fixed, stack[2048], *payload = stack;
    Py_ssize_t static_len, message_len;
    PyObject *owned;
    if (nargs != 3) return PyErr_Format(PyExc_TypeError, "record(static, message, kind) takes three arguments");
    int kind = kind_of(args[2]);
    if (kind < 0 || PyBytes_AsStringAndSize(args[0], &fixed, &static_len) != 0) return NULL;
    if (static_len > 999999) return PyErr_Format(PyExc_ValueError, "the constant part of an event has at most 999999 bytes");
    const char *message = message_text(args[1], &message_len, &owned);
    if (!message || !is_writable(self)) { /* looked at last: str() may run any Python code, and that may close it */
        Py_XDECREF(owned);
        return NULL;
    }
    struct mpb_segment *seg = &self->seg;
    enum mpb_refusal answer = MPB_TOO_LARGE;
    size_t size = (uint64_t)message_len > seg->lane_cap ? SIZE_MAX
                                                        : mpb_payload_size((size_t)static_len, message, (size_t)message_len);
    if (size > mpb_max_payload(seg->lane_cap)) {
        mpb_refuse(seg, MPB_TOO_LARGE, NULL, 0);
    } else if (size > sizeof stack && !(payload = PyMem_Malloc(size))) {
        Py_DECREF(owned);
        return PyErr_NoMemory();
    } else if (!mpb_my_lane_or_later(seg)) { /* without one there is no name to make unique, and nothing to put */
        mpb_refuse(seg, LOAD(&seg->header->state, relaxed) == STATE_RUNNING ? MPB_NO_LANE : MPB_STOPPED, NULL, 0);
    } else {
        struct payload p = {payload, (Py_ssize_t)size, {.obj = NULL}};
        mpb_write_payload(payload, mpb_event_time(seg), fixed, (size_t)static_len, message, (size_t)message_len);
        answer = put_once(seg, &p, (uint16_t)kind, true);
    }
    if (payload != stack) PyMem_Free(payload);
    Py_DECREF(owned);
    return PyBool_FromLong(answer == MPB_OK);
}

/* A time for an event that is encoded elsewhere; 0 when there is no lane to make it unique. */
static PyObject *Segment_event_time(Segment *self, PyObject *Py_UNUSED(ignored))
{
    if (!is_writable(self)) return NULL;
    return PyLong_FromUnsignedLongLong(mpb_my_lane_or_later(&self->seg) ? mpb_event_time(&self->seg) : 0);
}

struct lane_head {
    struct mpb_segment *seg;
    struct mpb_ring *ring;
    uint64_t word;
};

/* Without the GIL, so nothing of the lane's private state is touched: another thread may be putting. */
static bool head_moved(void *arg)
{
    struct lane_head *h = arg;
    if (LOAD(&h->seg->header->state, seq_cst) != STATE_RUNNING) return true;
    return LOAD(&h->ring->head.word, seq_cst) != h->word && mpb_has_room(h->ring, h->seg->lane_cap, h->seg->lane_limit);
}

/* Sleeps until the distributor has taken something from our lane since before; a slice at most. */
static void wait_for_room(Segment *self, uint64_t before, uint64_t slice)
{
    struct mpb_segment *seg = &self->seg;
    struct mpb_lane *lane = &seg->lanes[seg->mine->lane_index];
    struct lane_head head = {seg, &lane->ring, before};
    /* seq_cst: pairs with the distributor's look at want_room after it has moved head. */
    STORE(&lane->want_room, 1u, seq_cst);
    self->users++;
    bool alone = !seg->mine->waiting; /* one sleeper per bell: another thread of this process naps instead */
    if (alone) seg->mine->waiting = 1;
    Py_BEGIN_ALLOW_THREADS
    if (alone) mpb_bell_sleep(&lane->bell, head_moved, &head, slice);
    else mpb_nap(slice < NAP_NS ? slice : NAP_NS);
    Py_END_ALLOW_THREADS
    self->users--;
    if (alone) {
        seg->mine->waiting = 0;
        STORE(&lane->want_room, 0u, relaxed);
    }
}

static uint64_t deadline_of(PyObject *timeout, bool *failed)
{
    if (timeout == Py_None) return UINT64_MAX;
    double seconds = PyFloat_AsDouble(timeout);
    *failed = seconds == -1.0 && PyErr_Occurred();
    if (*failed) return 0;
    if (!(seconds > 0)) return 0;
    return seconds > 1e9 ? UINT64_MAX : mpb_now() + (uint64_t)(seconds * SECOND);
}

static PyObject *Segment_offer(Segment *self, PyObject *args)
{
    PyObject *obj, *timeout;
    int kind;
    bool failed = false;
    if (!PyArg_ParseTuple(args, "OiO", &obj, &kind, &timeout)) return NULL;
    if (kind < 0 || kind >= (int)MPB_KIND_PAD) return PyErr_Format(PyExc_ValueError, "kind must be between 0 and 65534");
    uint64_t deadline = deadline_of(timeout, &failed);
    struct payload p;
    if (failed || !get_payload(obj, &p)) return NULL;
    enum mpb_refusal answer;
    if (!is_writable(self)) {
        if (p.view.obj) PyBuffer_Release(&p.view);
        return NULL;
    }
    for (;;) {
        bool last = deadline != UINT64_MAX && mpb_now() >= deadline;
        struct mpb_private *mine = self->seg.mine;
        uint64_t before = mine->has_lane ? LOAD(&mine->lane.ring->head.word, seq_cst) : 0;
        answer = put_once(&self->seg, &p, (uint16_t)kind, last);
        if (answer != MPB_FULL || last) break;
        uint64_t now = mpb_now(), left = deadline > now ? deadline - now : 0, slice = 100000000;
        wait_for_room(self, before, left < slice ? left : slice);
        if (PyErr_CheckSignals() != 0 || !is_open(self)) {
            if (p.view.obj) PyBuffer_Release(&p.view);
            return NULL;
        }
    }
    if (p.view.obj) PyBuffer_Release(&p.view);
    return PyLong_FromLong(answer);
}

static PyObject *Segment_refuse(Segment *self, PyObject *args)
{
    int why;
    const char *text = NULL;
    Py_ssize_t len = 0;
    if (!PyArg_ParseTuple(args, "i|z#", &why, &text, &len) || !is_writable(self)) return NULL;
    if (why <= MPB_OK || why >= MPB_REFUSALS) return PyErr_Format(PyExc_ValueError, "no such reason: %d", why);
    if (text) mpb_my_lane(&self->seg); /* the text needs a place */
    mpb_refuse(&self->seg, (enum mpb_refusal)why, text, (size_t)len);
    Py_RETURN_NONE;
}

static PyObject *Segment_lane_index(Segment *self, PyObject *Py_UNUSED(ignored))
{
    if (!is_open(self)) return NULL;
    return PyLong_FromLong(self->seg.mine->has_lane ? (long)self->seg.mine->lane_index : -1);
}

static PyObject *Segment_claim_lane(Segment *self, PyObject *Py_UNUSED(ignored))
{
    if (!is_writable(self)) return NULL;
    mpb_my_lane(&self->seg);
    return Segment_lane_index(self, NULL);
}

static PyObject *Segment_set_lane_name(Segment *self, PyObject *args)
{
    const char *name;
    if (!PyArg_ParseTuple(args, "y", &name) || !is_writable(self)) return NULL;
    if (self->seg.mine->has_lane) {
        struct mpb_lane *lane = &self->seg.lanes[self->seg.mine->lane_index];
        snprintf(lane->owner_name, sizeof lane->owner_name, "%s", name);
    }
    Py_RETURN_NONE;
}

static PyObject *Segment_fd(Segment *self, void *closure);

static PyObject *Segment_lock(Segment *self, PyObject *args)
{
    unsigned int byte;
    int wait = 0, result;
    if (!PyArg_ParseTuple(args, "I|p", &byte, &wait) || !is_writable(self)) return NULL;
    self->users++;
    result = mpb_lock(&self->seg, byte, false); /* under the GIL: this opens the description that all threads share */
    while (wait && (result == EAGAIN || result == EACCES || result == EINTR) && PyErr_CheckSignals() == 0) {
        Py_BEGIN_ALLOW_THREADS
        result = mpb_lock(&self->seg, byte, true);
        Py_END_ALLOW_THREADS
    }
    self->users--;
    if (PyErr_Occurred()) return NULL;
    if (result == 0) Py_RETURN_TRUE;
    if (result == EAGAIN || result == EACCES) Py_RETURN_FALSE;
    if (result == EBADF) {
        PyObject *fd = Segment_fd(self, NULL); /* says why, unless it is there and only its second opening failed */
        if (!fd) return NULL;
        Py_DECREF(fd);
        return PyErr_Format(error, "the kernel gave no lock on the segment: no descriptor is free, or /proc is not mounted");
    }
    return PyErr_Format(error, "the kernel gave no lock on the segment: %s", strerror(result));
}

static PyObject *Segment_unlock(Segment *self, PyObject *args)
{
    unsigned int byte;
    if (!PyArg_ParseTuple(args, "I", &byte) || !is_writable(self)) return NULL;
    mpb_unlock(&self->seg, byte);
    Py_RETURN_NONE;
}

static PyObject *Segment_lock_is_free(Segment *self, PyObject *args)
{
    unsigned int byte;
    if (!PyArg_ParseTuple(args, "I", &byte) || !is_open(self)) return NULL;
    return PyBool_FromLong(mpb_lock_is_free(&self->seg, byte));
}

static PyObject *Segment_get(Segment *self, PyObject *args)
{
    const char *name;
    if (!PyArg_ParseTuple(args, "s", &name) || !is_open(self)) return NULL;
    const struct field *f = find_field(header_fields, name);
    return f ? PyLong_FromUnsignedLongLong(load_field(self->seg.header, f)) : NULL;
}

static PyObject *Segment_set(Segment *self, PyObject *args)
{
    const char *name;
    unsigned long long v;
    if (!PyArg_ParseTuple(args, "sK", &name, &v) || !is_writable(self)) return NULL;
    const struct field *f = find_field(header_fields, name);
    if (!f) return NULL;
    store_field(self->seg.header, f, v);
    Py_RETURN_NONE;
}

static PyObject *Segment_slot_get(Segment *self, PyObject *args)
{
    unsigned int j;
    const char *name;
    struct mpb_slot *slot;
    if (!PyArg_ParseTuple(args, "Is", &j, &name) || !(slot = slot_of(self, j))) return NULL;
    const struct field *f = find_field(slot_fields, name);
    return f ? PyLong_FromUnsignedLongLong(load_field(slot, f)) : NULL;
}

static PyObject *Segment_slot_set(Segment *self, PyObject *args)
{
    unsigned int j;
    const char *name;
    unsigned long long v;
    struct mpb_slot *slot;
    if (!PyArg_ParseTuple(args, "IsK", &j, &name, &v) || !is_writable(self) || !(slot = slot_of(self, j))) return NULL;
    const struct field *f = find_field(slot_fields, name);
    if (!f) return NULL;
    store_field(slot, f, v);
    Py_RETURN_NONE;
}

/* Adds to one of the slot's cells; any process may. */
static PyObject *Segment_slot_count(Segment *self, PyObject *args)
{
    unsigned int j, cell;
    unsigned long long n = 1;
    struct mpb_slot *slot;
    if (!PyArg_ParseTuple(args, "II|K", &j, &cell, &n) || !is_writable(self) || !(slot = slot_of(self, j))) return NULL;
    if (cell >= sizeof slot->cells / sizeof *slot->cells) return PyErr_Format(PyExc_IndexError, "no such cell: %u", cell);
    atomic_fetch_add_explicit(&slot->cells[cell], n, memory_order_relaxed);
    Py_RETURN_NONE;
}

static PyObject *Segment_slot_state_change(Segment *self, PyObject *args)
{
    unsigned int j, from, to;
    struct mpb_slot *slot;
    if (!PyArg_ParseTuple(args, "III", &j, &from, &to) || !is_writable(self) || !(slot = slot_of(self, j))) return NULL;
    uint32_t expected = from;
    /* seq_cst: REGISTERED must be seen by every round whose T0 lies behind it, see look_at_slot in distribute.c. */
    bool done = atomic_compare_exchange_strong(&slot->state, &expected, to);
    if (done) {
        mpb_ring_bell(&self->seg.header->bell);
        mpb_ring_bell(&slot->bell);
    }
    return PyBool_FromLong(done);
}

static PyObject *Segment_slot_stop(Segment *self, PyObject *args)
{
    unsigned int j, generation;
    if (!PyArg_ParseTuple(args, "II", &j, &generation) || !is_writable(self) || !slot_of(self, j)) return NULL;
    return PyBool_FromLong(mpb_stop_slot(&self->seg, j, generation));
}

static PyObject *Segment_claim_slot(Segment *self, PyObject *args)
{
    const char *name;
    unsigned int policy;
    int managed;
    unsigned long long limit;
    if (!PyArg_ParseTuple(args, "yIpK", &name, &policy, &managed, &limit) || !is_writable(self)) return NULL;
    if (mpb_descriptor(&self->seg) < 0) return Segment_fd(self, NULL); /* without a lock nobody would see its consumer */
    int j = mpb_claim_slot(&self->seg);
    if (j >= 0) {
        struct mpb_slot *slot = &self->seg.slots[j];
        STORE(&slot->policy, policy, relaxed);
        STORE(&slot->managed, (uint32_t)managed, relaxed);
        STORE(&slot->limit, limit, relaxed);
        snprintf(slot->name, sizeof slot->name, "%s", name);
    }
    return PyLong_FromLong(j);
}

/* Writes a prefix record into a slot that is still CLAIMED, where the registrant is the only writer. */
static PyObject *Segment_prefix(Segment *self, PyObject *args)
{
    unsigned int j;
    int kind;
    Py_buffer b;
    struct mpb_slot *slot;
    if (!PyArg_ParseTuple(args, "Iiy*", &j, &kind, &b)) return NULL;
    enum mpb_refusal answer = MPB_STOPPED;
    if (is_writable(self) && (slot = slot_of(self, j)) && LOAD(&slot->state, acquire) == SLOT_CLAIMED) {
        struct mpb_producer p;
        struct mpb_place place;
        mpb_producer_open(&p, &slot->ring, self->seg.slot_data + (uint64_t)j * self->seg.slot_cap, self->seg.slot_cap, 0, NULL);
        answer = mpb_reserve(&p, (uint64_t)b.len, &place);
        if (answer == MPB_OK) {
            uint64_t seq = p.num[ST_FORWARDED] + 1;
            mpb_write(&p, &place, (uint16_t)kind, 0, mpb_now(), seq, b.buf, (uint64_t)b.len, NULL, 0);
            p.num[ST_FORWARDED] = seq;
            mpb_publish(&p, p.num);
            atomic_fetch_add_explicit(&slot->prefix, 1, memory_order_relaxed);
        }
    }
    PyBuffer_Release(&b);
    return PyErr_Occurred() ? NULL : PyLong_FromLong(answer);
}

static PyObject *Segment_begin_drain(Segment *self, PyObject *args)
{
    unsigned long long deadline;
    if (!PyArg_ParseTuple(args, "K", &deadline) || !is_writable(self)) return NULL;
    struct mpb_header *h = self->seg.header;
    uint32_t running = STATE_RUNNING;
    /* The earliest of several: who asks again must not put off what was promised to the first. */
    uint64_t before = LOAD(&h->drain_deadline, seq_cst);
    while (deadline < before && !atomic_compare_exchange_weak(&h->drain_deadline, &before, deadline)) continue;
    /* seq_cst: a put that answered True came before the seals, which come after this. */
    bool first = atomic_compare_exchange_strong(&h->state, &running, STATE_DRAINING);
    mpb_ring_bell(&h->bell);
    return PyBool_FromLong(first);
}

static PyObject *Segment_wake(Segment *self, PyObject *Py_UNUSED(ignored))
{
    if (!is_writable(self)) return NULL;
    mpb_ring_bell(&self->seg.header->bell);
    Py_RETURN_NONE;
}

/* Marks crashes of this process in the slot, see process.h. */
static PyObject *Segment_mark_crashes(Segment *self, PyObject *args)
{
    unsigned int j;
    struct mpb_slot *slot;
    if (!PyArg_ParseTuple(args, "I", &j) || !is_writable(self) || !(slot = slot_of(self, j))) return NULL;
    int failed = mpb_mark_crashes(&slot->crash_mark);
    if (failed) return PyErr_Format(error, "no handler for crashes: %s", strerror(failed));
    Py_RETURN_NONE;
}

static PyObject *text_of(const char *at, size_t size)
{
    return PyBytes_FromStringAndSize(at, (Py_ssize_t)strnlen(at, size)); /* whatever is in there: callers decode it */
}

static int dict_numbers(PyObject *dict, struct mpb_word *w, const char *const names[MPB_NUMBERS], const char *pos_name)
{
    uint64_t word = 0, num[MPB_NUMBERS];
    bool steady = mpb_read_numbers(w, &word, num);
    if (dict_set(dict, pos_name, PyLong_FromUnsignedLongLong(mpb_pos(word))) != 0) return -1;
    for (int i = 0; i < (int)MPB_NUMBERS && names[i]; i++)
        if (dict_set(dict, names[i], PyLong_FromUnsignedLongLong(num[i])) != 0) return -1;
    return steady ? 0 : dict_set(dict, "approximate", PyBool_FromLong(1));
}

static PyObject *refusals(_Atomic uint64_t *refused)
{
    PyObject *tuple = PyTuple_New(MPB_REFUSALS);
    for (int i = 0; tuple && i < MPB_REFUSALS; i++) {
        PyObject *n = PyLong_FromUnsignedLongLong(LOAD(&refused[i], relaxed));
        if (!n || PyTuple_SetItem(tuple, i, n) != 0) Py_CLEAR(tuple);
    }
    return tuple;
}

static PyObject *lane_snapshot(struct mpb_segment *seg, uint32_t i)
{
    static const char *const tail[MPB_NUMBERS] = {"accepted", "last_ts"};
    static const char *const head[MPB_NUMBERS] = {"forwarded", "corrupt", "lost", "clock"};
    struct mpb_lane *lane = &seg->lanes[i];
    uint64_t owner = LOAD(&lane->owner, acquire);
    PyObject *dict = PyDict_New();
    /* head before tail: a lane then never seems to have forwarded more than it accepted. */
    if (!dict || dict_numbers(dict, &lane->ring.head, head, "head") != 0 ||
        dict_numbers(dict, &lane->ring.tail, tail, "tail") != 0 || dict_fields(dict, lane, lane_fields) != 0 ||
        dict_set(dict, "owner_pid", PyLong_FromUnsignedLong(MPB_OWNER_PID(owner))) != 0 ||
        dict_set(dict, "owner_start", PyLong_FromUnsignedLongLong(owner & MPB_OWNER_TICKS)) != 0 ||
        dict_set(dict, "index", PyLong_FromUnsignedLong(i)) != 0 ||
        dict_set(dict, "refused", refusals(lane->refused)) != 0 ||
        dict_set(dict, "owner_name", text_of(lane->owner_name, sizeof lane->owner_name)) != 0 ||
        dict_set(dict, "problem", text_of(lane->problem, sizeof lane->problem)) != 0)
        Py_CLEAR(dict);
    return dict;
}

static PyObject *slot_snapshot(struct mpb_segment *seg, uint32_t j)
{
    static const char *const tail[MPB_NUMBERS] = {"forwarded", "dropped", "outside"};
    static const char *const head[MPB_NUMBERS] = {"handled", "failed", "given_up", "filtered", "lost"};
    struct mpb_slot *slot = &seg->slots[j];
    PyObject *dict = PyDict_New(), *cells = PyTuple_New(sizeof slot->cells / sizeof *slot->cells);
    for (Py_ssize_t i = 0; cells && i < PyTuple_Size(cells); i++) {
        PyObject *n = PyLong_FromUnsignedLongLong(LOAD(&slot->cells[i], relaxed));
        if (!n || PyTuple_SetItem(cells, i, n) != 0) Py_CLEAR(cells);
    }
    if (!dict || !cells) {
        Py_XDECREF(cells);
        Py_CLEAR(dict);
    } else if (dict_numbers(dict, &slot->ring.head, head, "head") != 0 ||
               dict_numbers(dict, &slot->ring.tail, tail, "tail") != 0 || dict_fields(dict, slot, slot_fields) != 0 ||
               dict_set(dict, "cells", Py_NewRef(cells)) != 0 ||
               dict_set(dict, "index", PyLong_FromUnsignedLong(j)) != 0 ||
               dict_set(dict, "name", text_of(slot->name, sizeof slot->name)) != 0) {
        Py_CLEAR(dict);
    }
    Py_XDECREF(cells);
    return dict;
}

static PyObject *Segment_snapshot(Segment *self, PyObject *Py_UNUSED(ignored))
{
    if (!is_open(self)) return NULL;
    struct mpb_segment *seg = &self->seg;
    struct mpb_header *h = seg->header;
    PyObject *dict = PyDict_New(), *lanes = PyList_New(0), *slots = PyList_New(0), *retired = PyList_New(0);
    bool ok = dict && lanes && slots && retired && dict_fields(dict, h, header_fields) == 0 &&
              dict_set(dict, "refused", refusals(h->refused)) == 0 &&
              dict_set(dict, "name", text_of(h->name, sizeof h->name)) == 0;
    /* Slots before lanes: a watcher then never seems to have got more than the lanes forwarded. */
    for (uint32_t j = 0; ok && j < seg->nslots; j++) {
        if (LOAD(&seg->slots[j].generation, relaxed) == 0) continue;
        PyObject *one = slot_snapshot(seg, j);
        ok = one && PyList_Append(slots, one) == 0;
        Py_XDECREF(one);
    }
    for (uint32_t i = 0; ok && i < seg->nlanes; i++) {
        if (!(LOAD(&h->claimed[i / 64], relaxed) >> (i % 64) & 1)) continue;
        PyObject *one = lane_snapshot(seg, i);
        ok = one && PyList_Append(lanes, one) == 0;
        Py_XDECREF(one);
    }
    for (uint32_t i = 0; ok && i < sizeof h->retired / sizeof *h->retired; i++) {
        PyObject *one = PyLong_FromUnsignedLongLong(LOAD(&h->retired[i], relaxed));
        ok = one && PyList_Append(retired, one) == 0;
        Py_XDECREF(one);
    }
    if (ok)
        ok = PyDict_SetItemString(dict, "lanes", lanes) == 0 && PyDict_SetItemString(dict, "slots", slots) == 0 &&
             PyDict_SetItemString(dict, "retired", retired) == 0;
    Py_XDECREF(lanes);
    Py_XDECREF(slots);
    Py_XDECREF(retired);
    if (!ok) Py_CLEAR(dict);
    return dict;
}

static PyObject *Segment_token(Segment *self, void *Py_UNUSED(closure))
{
    return is_open(self) ? PyBytes_FromStringAndSize((const char *)self->seg.header->token, 16) : NULL;
}

static PyObject *Segment_sizes(Segment *self, void *Py_UNUSED(closure))
{
    if (!is_open(self)) return NULL;
    return Py_BuildValue("IKIKK", self->seg.nlanes, (unsigned long long)self->seg.lane_cap, self->seg.nslots,
                         (unsigned long long)self->seg.slot_cap, (unsigned long long)self->seg.lane_limit);
}

#define METHOD(name, flags) {#name, (PyCFunction)(void (*)(void))Segment_##name, flags, NULL}
static PyMethodDef Segment_methods[] = {
    METHOD(put, METH_FASTCALL), METHOD(record, METH_FASTCALL), METHOD(event_time, METH_NOARGS), METHOD(offer, METH_VARARGS), METHOD(refuse, METH_VARARGS),
    METHOD(lane_index, METH_NOARGS), METHOD(claim_lane, METH_NOARGS), METHOD(set_lane_name, METH_VARARGS),
    METHOD(lock, METH_VARARGS), METHOD(unlock, METH_VARARGS), METHOD(lock_is_free, METH_VARARGS),
    METHOD(get, METH_VARARGS), METHOD(set, METH_VARARGS), METHOD(slot_get, METH_VARARGS), METHOD(slot_set, METH_VARARGS),
    METHOD(slot_count, METH_VARARGS), METHOD(slot_state_change, METH_VARARGS), METHOD(slot_stop, METH_VARARGS), METHOD(claim_slot, METH_VARARGS),
    METHOD(prefix, METH_VARARGS), METHOD(begin_drain, METH_VARARGS), METHOD(wake, METH_NOARGS),
    METHOD(mark_crashes, METH_VARARGS), METHOD(snapshot, METH_NOARGS), METHOD(close, METH_NOARGS),
    {NULL, NULL, 0, NULL}};
#undef METHOD

/* The descriptor of the file, found again where this process has closed its own. */
static PyObject *Segment_fd(Segment *self, void *Py_UNUSED(closure))
{
    if (!is_open(self)) return NULL;
    int fd = mpb_descriptor(&self->seg);
    if (fd >= 0) return PyLong_FromLong(fd);
    return PyErr_Format(error, "this process has closed the broadcaster's descriptor, as daemons do, and no helper that it may"
                               " look into has it; start watchers before that, or keep the descriptor open");
}

static PyGetSetDef Segment_getset[] = {
    {"fd", (getter)Segment_fd, NULL, NULL, NULL},
    {"token", (getter)Segment_token, NULL, NULL, NULL},
    {"sizes", (getter)Segment_sizes, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL}};

static PyType_Slot Segment_slots[] = {
    {Py_tp_new, Segment_new}, {Py_tp_dealloc, Segment_dealloc}, {Py_tp_methods, Segment_methods},
    {Py_tp_getset, Segment_getset}, {0, NULL}};
static PyType_Spec Segment_spec = {"mpbroadcast.ring._ring.Segment", sizeof(Segment), 0, Py_TPFLAGS_DEFAULT, Segment_slots};
static PyTypeObject *Segment_type;

/* ---- Reader --------------------------------------------------------------------------------------------------------------- */

typedef struct {
    PyObject_HEAD
    Segment *segment;
    struct mpb_reader reader;
    pid_t pid;
    bool waiting; /* a thread sleeps on the slot's bell */
} Reader;

static Segment *segment_arg(PyObject *obj)
{
    if (PyObject_TypeCheck(obj, Segment_type)) return (Segment *)obj;
    PyErr_SetString(PyExc_TypeError, "a Segment is needed");
    return NULL;
}

static PyObject *Reader_new(PyTypeObject *type, PyObject *args, PyObject *Py_UNUSED(kwargs))
{
    PyObject *obj;
    unsigned int slot;
    Segment *segment;
    if (!PyArg_ParseTuple(args, "OI", &obj, &slot) || !(segment = segment_arg(obj)) || !is_writable(segment) ||
        !slot_of(segment, slot))
        return NULL;
    Reader *self = (Reader *)((allocfunc)PyType_GetSlot(type, Py_tp_alloc))(type, 0);
    if (!self) return NULL;
    self->segment = (Segment *)Py_NewRef(obj);
    segment->users++;
    self->pid = getpid();
    segment->seg.mine->pid = (uint32_t)self->pid;
    mpb_reader_open(&self->reader, &segment->seg, slot);
    return (PyObject *)self;
}

static void Reader_dealloc(Reader *self)
{
    PyTypeObject *type = Py_TYPE((PyObject *)self);
    mpb_reader_close(&self->reader);
    if (self->segment) {
        self->segment->users--;
        Py_DECREF(self->segment);
    }
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(self);
    Py_DECREF(type);
}

/* A forked child inherits the object, but not the ring: two consumers would hand out the same records. */
static bool may_read(Reader *self)
{
    if ((uint32_t)self->pid == self->segment->seg.mine->pid) return true; /* zero in a forked child, see claim.h */
    PyErr_SetString(error, "this watch belongs to the process that made it; call watch() in this one");
    return false;
}

/* (sequence, kind, payload); by hand, as Py_BuildValue takes as long as all the rest. */
static PyObject *record_tuple(const struct mpb_record *rec)
{
    PyObject *tuple = PyTuple_New(3), *parts[3] = {NULL, NULL, NULL};
    parts[0] = tuple ? PyLong_FromUnsignedLongLong(rec->seq) : NULL;
    parts[1] = parts[0] ? PyLong_FromLong(rec->kind) : NULL;
    parts[2] = parts[1] ? PyBytes_FromStringAndSize(rec->payload, (Py_ssize_t)rec->len) : NULL;
    for (Py_ssize_t i = 0; i < 3; i++) {
        if (!parts[i]) Py_CLEAR(tuple);
        else if (!tuple) Py_DECREF(parts[i]);
        else PyTuple_SetItem(tuple, i, parts[i]); /* cannot fail: the tuple is new and the index is in it */
    }
    if (tuple) PyObject_GC_UnTrack(tuple); /* it holds numbers and bytes: the collector need not look at it */
    return tuple;
}

static PyObject *take_records(Reader *self, Py_ssize_t max_records, Py_ssize_t max_bytes, bool *end)
{
    PyObject *list = PyList_New(0);
    struct mpb_record rec;
    enum mpb_read got = READ_NONE;
    while (list && max_records-- > 0 && max_bytes > 0 && (got = mpb_read(&self->reader, &rec)) == READ_RECORD) {
        PyObject *item = record_tuple(&rec);
        if (!item || PyList_Append(list, item) != 0) Py_CLEAR(list);
        Py_XDECREF(item);
        max_bytes -= (Py_ssize_t)rec.len;
    }
    if (got == READ_NO_MEMORY) {
        Py_CLEAR(list);
        PyErr_NoMemory();
    }
    *end = got == READ_END;
    return list;
}

static PyObject *Reader_get_many(Reader *self, PyObject *args)
{
    Py_ssize_t max_records, max_bytes;
    PyObject *timeout;
    double slice = 0.1;
    bool failed = false, end;
    if (!PyArg_ParseTuple(args, "nnO|d", &max_records, &max_bytes, &timeout, &slice) || !may_read(self)) return NULL;
    uint64_t deadline = deadline_of(timeout, &failed);
    if (failed) return NULL;
    if (max_records < 1 || max_bytes < 1 || !(slice > 0 && slice <= 3600))
        return PyErr_Format(PyExc_ValueError, "at least one record and one byte, and a slice of up to 3600 seconds");
    for (;;) {
        PyObject *list = take_records(self, max_records, max_bytes, &end);
        if (!list) return NULL;
        if (PyList_Size(list) > 0) {
            self->reader.napped = PyList_Size(list) < 16; /* many at once: traffic flows, so the next wait is a nap */
            return list;
        }
        uint64_t now = mpb_now();
        if (end || now >= deadline) {
            if (!end) return list;
            Py_DECREF(list);
            Py_RETURN_NONE;
        }
        Py_DECREF(list);
        uint64_t ns = (uint64_t)(slice * SECOND);
        if (deadline - now < ns) ns = deadline - now;
        bool nap = !self->reader.napped || self->waiting; /* one sleeper per bell: another thread naps instead */
        self->reader.napped = true;
        if (!nap) self->waiting = true;
        Py_BEGIN_ALLOW_THREADS
        if (nap) mpb_nap(ns < NAP_NS ? ns : NAP_NS);
        else mpb_bell_sleep(&self->reader.slot->bell, mpb_reader_has_news, &self->reader, ns);
        Py_END_ALLOW_THREADS
        if (!nap) self->waiting = false;
        if (PyErr_CheckSignals() != 0) return NULL;
    }
}

static int outcome_of(int outcome)
{
    if (outcome > OUTCOME_NONE && outcome < OUTCOMES) return outcome;
    PyErr_SetString(PyExc_ValueError, "no such outcome");
    return -1;
}

static PyObject *Reader_settle(Reader *self, PyObject *const *args, Py_ssize_t nargs)
{
    if (nargs != 2) return PyErr_Format(PyExc_TypeError, "settle(sequence, outcome) takes two arguments");
    unsigned long long seq = PyLong_AsUnsignedLongLong(args[0]);
    if (seq == (unsigned long long)-1 && PyErr_Occurred()) return NULL;
    long outcome = PyLong_AsLong(args[1]);
    if ((outcome == -1 && PyErr_Occurred()) || !may_read(self) || outcome_of((int)outcome) < 0) return NULL;
    return PyBool_FromLong(mpb_settle(&self->reader, seq, (enum mpb_outcome)outcome));
}

static PyObject *Reader_settle_through(Reader *self, PyObject *args)
{
    unsigned long long seq;
    int outcome;
    if (!PyArg_ParseTuple(args, "Ki", &seq, &outcome) || !may_read(self) || outcome_of(outcome) < 0) return NULL;
    mpb_settle_through(&self->reader, seq, (enum mpb_outcome)outcome);
    Py_RETURN_NONE;
}

static PyObject *Reader_in_flight(Reader *self, void *Py_UNUSED(closure)) { return PyLong_FromUnsignedLong(self->reader.flight_n); }
static PyObject *Reader_seen(Reader *self, void *Py_UNUSED(closure)) { return PyLong_FromUnsignedLongLong(self->reader.seen); }
static PyObject *Reader_last_ts(Reader *self, void *Py_UNUSED(closure)) { return PyLong_FromUnsignedLongLong(self->reader.last_ts); }

static PyMethodDef Reader_methods[] = {
    {"get_many", (PyCFunction)Reader_get_many, METH_VARARGS, NULL},
    {"settle", (PyCFunction)(void (*)(void))Reader_settle, METH_FASTCALL, NULL},
    {"settle_through", (PyCFunction)Reader_settle_through, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL}};
static PyGetSetDef Reader_getset[] = {
    {"in_flight", (getter)Reader_in_flight, NULL, NULL, NULL},
    {"seen", (getter)Reader_seen, NULL, NULL, NULL},
    {"last_ts", (getter)Reader_last_ts, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL}};
static PyType_Slot Reader_slots[] = {
    {Py_tp_new, Reader_new}, {Py_tp_dealloc, Reader_dealloc}, {Py_tp_methods, Reader_methods},
    {Py_tp_getset, Reader_getset}, {0, NULL}};
static PyType_Spec Reader_spec = {"mpbroadcast.ring._ring.Reader", sizeof(Reader), 0, Py_TPFLAGS_DEFAULT, Reader_slots};

/* ---- Distributor ------------------------------------------------------------------------------------------------------- */

typedef struct {
    PyObject_HEAD
    Segment *segment;
    struct mpb_distributor *d;
    pid_t pid;
    bool running;
} Distributor;

static PyObject *Distributor_new(PyTypeObject *type, PyObject *args, PyObject *Py_UNUSED(kwargs))
{
    PyObject *obj;
    Segment *segment;
    if (!PyArg_ParseTuple(args, "O", &obj) || !(segment = segment_arg(obj)) || !is_writable(segment)) return NULL;
    Distributor *self = (Distributor *)((allocfunc)PyType_GetSlot(type, Py_tp_alloc))(type, 0);
    if (!self) return NULL;
    self->segment = (Segment *)Py_NewRef(obj);
    segment->users++;
    self->pid = getpid();
    self->d = PyMem_Malloc(sizeof *self->d);
    if (!self->d || !mpb_distributor_open(self->d, &segment->seg)) {
        PyMem_Free(self->d);
        self->d = NULL;
        Py_DECREF(self);
        return PyErr_NoMemory();
    }
    return (PyObject *)self;
}

static void Distributor_dealloc(Distributor *self)
{
    PyTypeObject *type = Py_TYPE((PyObject *)self);
    if (self->d) {
        mpb_distributor_close(self->d);
        PyMem_Free(self->d);
    }
    if (self->segment) {
        self->segment->users--;
        Py_DECREF(self->segment);
    }
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(self);
    Py_DECREF(type);
}

static PyObject *Distributor_run(Distributor *self, PyObject *args)
{
    double seconds;
    enum mpb_run result;
    if (!PyArg_ParseTuple(args, "d", &seconds)) return NULL;
    if (self->running) return PyErr_Format(error, "this distributor runs in another thread");
    if (self->pid != getpid()) return PyErr_Format(error, "this distributor belongs to the process that made it");
    if (!(seconds <= 3600)) return PyErr_Format(PyExc_ValueError, "a distributor runs for up to 3600 seconds at a time");
    uint64_t deadline = mpb_now() + (uint64_t)(seconds > 0 ? seconds * SECOND : 0);
    self->running = true;
    Py_BEGIN_ALLOW_THREADS
    result = mpb_distribute(self->d, deadline);
    Py_END_ALLOW_THREADS
    self->running = false;
    if (PyErr_CheckSignals() != 0) return NULL;
    return PyBool_FromLong(result == RUN_DRAINED);
}

static PyMethodDef Distributor_methods[] = {{"run", (PyCFunction)Distributor_run, METH_VARARGS, NULL}, {NULL, NULL, 0, NULL}};
static PyType_Slot Distributor_slots[] = {
    {Py_tp_new, Distributor_new}, {Py_tp_dealloc, Distributor_dealloc}, {Py_tp_methods, Distributor_methods}, {0, NULL}};
static PyType_Spec Distributor_spec = {
    "mpbroadcast.ring._ring.Distributor", sizeof(Distributor), 0, Py_TPFLAGS_DEFAULT, Distributor_slots};

/* ---- module ------------------------------------------------------------------------------------------------------------ */

static bool parse_sizes(struct mpb_sizes *s, unsigned int lanes, unsigned long long lane_bytes, unsigned int slots,
                        unsigned long long slot_bytes, unsigned long long limit)
{
    *s = (struct mpb_sizes){lanes, slots, lane_bytes, slot_bytes, limit};
    if (lanes >= 1 && lanes <= MPB_MAX_LANES && slots >= 1 && slots <= MPB_MAX_SLOTS && lane_bytes <= MPB_MAX_RING_BYTES &&
        slot_bytes <= MPB_MAX_RING_BYTES)
        return true;
    PyErr_SetString(PyExc_ValueError, "segment sizes out of range");
    return false;
}

static PyObject *total_bytes(PyObject *Py_UNUSED(module), PyObject *args)
{
    unsigned int lanes, slots;
    unsigned long long lane_bytes, slot_bytes;
    struct mpb_sizes s;
    if (!PyArg_ParseTuple(args, "IKIK", &lanes, &lane_bytes, &slots, &slot_bytes) ||
        !parse_sizes(&s, lanes, lane_bytes, slots, slot_bytes, 0))
        return NULL;
    return PyLong_FromUnsignedLongLong(mpb_total_bytes(&s));
}

static PyObject *format_segment(PyObject *Py_UNUSED(module), PyObject *args)
{
    int fd;
    unsigned int lanes, slots;
    unsigned long long lane_bytes, slot_bytes, limit;
    const char *token, *name;
    Py_ssize_t token_len;
    struct mpb_sizes s;
    if (!PyArg_ParseTuple(args, "iIKIKKy#y", &fd, &lanes, &lane_bytes, &slots, &slot_bytes, &limit, &token, &token_len, &name) ||
        !parse_sizes(&s, lanes, lane_bytes, slots, slot_bytes, limit))
        return NULL;
    if (token_len != 16) return PyErr_Format(PyExc_ValueError, "a token has 16 bytes");
    void *map = mmap(NULL, MPB_HEADER_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED) return PyErr_SetFromErrno(PyExc_OSError);
    mpb_format(map, &s, (const uint8_t *)token, name);
    munmap(map, MPB_HEADER_BYTES);
    Py_RETURN_NONE;
}

/* 0, or the process that still uses the segment. */
static PyObject *adopt_segment(PyObject *Py_UNUSED(module), PyObject *args)
{
    int fd;
    const char *boot_id;
    Py_ssize_t len;
    uint32_t living;
    if (!PyArg_ParseTuple(args, "iy#", &fd, &boot_id, &len)) return NULL;
    if (len != 16) return PyErr_Format(PyExc_ValueError, "a boot id has 16 bytes");
    const char *why = mpb_adopt(fd, (const uint8_t *)boot_id, &living);
    if (why && !living) return PyErr_Format(error, "%s", why);
    return PyLong_FromUnsignedLong(living);
}

static PyObject *start_ticks(PyObject *Py_UNUSED(module), PyObject *args)
{
    unsigned int pid;
    if (!PyArg_ParseTuple(args, "I", &pid)) return NULL;
    return PyLong_FromUnsignedLongLong(mpb_start_ticks(pid));
}

static PyObject *set_title(PyObject *Py_UNUSED(module), PyObject *args)
{
    const char *title;
    Py_ssize_t len;
    if (!PyArg_ParseTuple(args, "y#", &title, &len)) return NULL;
    return PyLong_FromLong(mpb_set_title(title, (size_t)len));
}

static PyMethodDef module_methods[] = {
    {"total_bytes", total_bytes, METH_VARARGS, NULL}, {"format_segment", format_segment, METH_VARARGS, NULL},
    {"start_ticks", start_ticks, METH_VARARGS, NULL}, {"set_title", set_title, METH_VARARGS, NULL},
    {"adopt_segment", adopt_segment, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL}};

static const struct {
    const char *name;
    long value;
} constants[] = {
    {"LAYOUT_VERSION", MPB_LAYOUT_VERSION}, {"MAX_LANES", MPB_MAX_LANES}, {"MAX_SLOTS", MPB_MAX_SLOTS},
    {"MIN_RING_BYTES", MPB_MIN_RING_BYTES}, {"MAX_RING_BYTES", MPB_MAX_RING_BYTES}, {"RECORD_HEADER", MPB_RECORD_HEADER},
    {"OK", MPB_OK}, {"FULL", MPB_FULL}, {"TOO_LARGE", MPB_TOO_LARGE}, {"STOPPED", MPB_STOPPED}, {"NO_LANE", MPB_NO_LANE},
    {"INVALID", MPB_INVALID}, {"POLICY_WAIT", POLICY_WAIT}, {"POLICY_DROP", POLICY_DROP},
    {"SLOT_FREE", SLOT_FREE}, {"SLOT_CLAIMED", SLOT_CLAIMED}, {"SLOT_REGISTERED", SLOT_REGISTERED},
    {"SLOT_ACTIVE", SLOT_ACTIVE}, {"SLOT_STOPPING", SLOT_STOPPING}, {"SLOT_CLOSED", SLOT_CLOSED},
    {"SLOT_ENDED", SLOT_ENDED}, {"SLOT_ABANDONED", SLOT_ABANDONED},
    {"RUNNING", STATE_RUNNING}, {"DRAINING", STATE_DRAINING}, {"DRAINED", STATE_DRAINED},
    {"LOCK_OWNER", LOCK_OWNER}, {"LOCK_DIST", LOCK_DIST}, {"LOCK_LANE", LOCK_LANE}, {"LOCK_SLOT", LOCK_SLOT},
    {"LOCK_START", LOCK_START}, {"LOCK_RESCUE", LOCK_RESCUE}, {"MANAGED_LEFT", MPB_MANAGED_LEFT},
    {"MARK_EXIT", MPB_MARK_EXIT}, {"HANDLED", OUTCOME_HANDLED}, {"FAILED", OUTCOME_FAILED}, {"GIVEN_UP", OUTCOME_GIVEN_UP},
    {"FILTERED", OUTCOME_FILTERED}};

static PyTypeObject *add_type(PyObject *module, PyType_Spec *spec)
{
    PyObject *type = PyType_FromModuleAndSpec(module, spec, NULL);
    if (!type || PyModule_AddType(module, (PyTypeObject *)type) != 0) return NULL;
    return (PyTypeObject *)type;
}

static int exec_module(PyObject *module)
{
    PyObject *errors = PyImport_ImportModule("mpbroadcast.errors");
    if (!errors) return -1;
    error = PyObject_GetAttrString(errors, "SegmentError");
    Py_DECREF(errors);
    if (!error) return -1;
    mpb_atfork_install();
    for (size_t i = 0; i < sizeof constants / sizeof *constants; i++)
        if (PyModule_AddIntConstant(module, constants[i].name, constants[i].value) != 0) return -1;
    Segment_type = add_type(module, &Segment_spec);
    return Segment_type && add_type(module, &Reader_spec) && add_type(module, &Distributor_spec) ? 0 : -1;
}

static PyModuleDef_Slot module_slots[] = {{Py_mod_exec, exec_module}, {0, NULL}};
static PyModuleDef module_def = {
    .m_base = PyModuleDef_HEAD_INIT, .m_name = "mpbroadcast.ring._ring", .m_methods = module_methods, .m_slots = module_slots};

PyMODINIT_FUNC PyInit__ring(void);
__attribute__((visibility("default"))) PyMODINIT_FUNC PyInit__ring(void) { return PyModuleDef_Init(&module_def); }
