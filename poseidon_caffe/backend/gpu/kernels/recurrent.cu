// What a recurrence does at one step after its product.  Gates lie as (i, f, o, g) of
// ``hidden`` values each for every stream; cells are kept as P.
#include "common.cuh"

DEVICE A sigmoid(A x) { return A(1) / (A(1) + exp(-x)); }

struct Gates {
  A i, f, o, g;
};

// The opened gates; a forget gate of a sequence's first step is shut whatever it is.
DEVICE Gates opened(A i, A f, A o, A g, A cont) {
  return {sigmoid(i), cont == 0 ? A(0) : cont * sigmoid(f), sigmoid(o), tanh(g)};
}

struct Back {
  A c, i, f, o, g;
};

// Gradients of c_prev and of the gates before their non-linearities.
DEVICE Back unit_back(const Gates& gates, A c_prev, A c, A dc, A dh) {
  const A bent = tanh(c);
  const A total = dc + dh * gates.o * (A(1) - bent * bent);
  return {total * gates.f, total * gates.g * gates.i * (A(1) - gates.i),
          total * c_prev * gates.f * (A(1) - gates.f),
          dh * bent * gates.o * (A(1) - gates.o),
          total * gates.i * (A(1) - gates.g * gates.g)};
}

// before = cont * state: what the recurrent weights see.
KERNEL(gate_state)(const T* state, const T* cont, T* before, long long count,
                   long long hidden) {
  FOR_EACH(i, count) before[i] = T(A(cont[i / hidden]) * A(state[i]));
}

// ``fixed``, ``cont_next`` and ``before`` (of the next step) may be null.
KERNEL(lstm_step)(const T* z, const T* fixed, const T* cont, const T* cont_next,
                  const P* c_prev, P* c, T* gates, T* h, T* before, long long count,
                  long long hidden) {
  FOR_EACH(at, count) {
    const long long stream = at / hidden;
    const long long first = 3 * stream * hidden + at;
    A in[4];
    for (int k = 0; k < 4; ++k) {
      in[k] = z[first + k * hidden];
      if (fixed) in[k] += A(fixed[first + k * hidden]);
    }
    const Gates now = opened(in[0], in[1], in[2], in[3], cont[stream]);
    const A cell = now.f * c_prev[at] + now.i * now.g;
    const A out = now.o * tanh(cell);
    c[at] = cell;
    h[at] = T(out);
    if (before) before[at] = T(A(cont_next[stream]) * out);
    gates[first] = T(now.i);
    gates[first + hidden] = T(now.f);
    gates[first + 2 * hidden] = T(now.o);
    gates[first + 3 * hidden] = T(now.g);
  }
}

// ``carried`` is what comes back through the weights from the next step, null at the
// last one, where ``dc`` is not read.
KERNEL(lstm_step_back)(const T* gates, const P* c_prev, const P* c, P* dc,
                       const T* dh, const P* carried, const T* cont_next, T* dz,
                       long long count, long long hidden) {
  FOR_EACH(at, count) {
    const long long stream = at / hidden;
    const long long first = 3 * stream * hidden + at;
    const Gates now = {gates[first], gates[first + hidden], gates[first + 2 * hidden],
                       gates[first + 3 * hidden]};
    A of_h = dh[at], of_c = 0;
    if (carried) {
      of_h += A(cont_next[stream]) * carried[at];
      of_c = dc[at];
    }
    const Back back = unit_back(now, c_prev[at], c[at], of_c, of_h);
    dc[at] = back.c;
    dz[first] = T(back.i);
    dz[first + hidden] = T(back.f);
    dz[first + 2 * hidden] = T(back.o);
    dz[first + 3 * hidden] = T(back.g);
  }
}

// h = tanh(z [+ fixed]); h may be z.
KERNEL(rnn_step)(const T* z, const T* fixed, const T* cont_next, T* h, T* before,
                 long long count, long long hidden) {
  FOR_EACH(at, count) {
    const A out = tanh(A(z[at]) + (fixed ? A(fixed[at]) : A(0)));
    h[at] = T(out);
    if (before) before[at] = T(A(cont_next[at / hidden]) * out);
  }
}

// dz may be dh.
KERNEL(rnn_step_back)(const T* h, const T* dh, const P* carried, const T* cont_next,
                      T* dz, long long count, long long hidden) {
  FOR_EACH(at, count) {
    A of_h = dh[at];
    if (carried) of_h += A(cont_next[at / hidden]) * carried[at];
    dz[at] = T(of_h * (A(1) - A(h[at]) * A(h[at])));
  }
}

DEVICE Gates gates_of(const T* x, A cont, long long first, long long hidden) {
  return opened(x[first], x[first + hidden], x[first + 2 * hidden],
                x[first + 3 * hidden], cont);
}

KERNEL(lstm_unit)(const T* c_prev, const T* x, const T* cont, T* c, T* h,
                  long long count, long long hidden) {
  FOR_EACH(at, count) {
    const long long stream = at / hidden;
    const Gates now = gates_of(x, cont[stream], 3 * stream * hidden + at, hidden);
    const A cell = now.f * A(c_prev[at]) + now.i * now.g;
    c[at] = T(cell);
    h[at] = T(now.o * tanh(cell));
  }
}

// ``dc_prev`` and ``dx`` may be null.
KERNEL(lstm_unit_back)(const T* c_prev, const T* x, const T* cont, const T* c,
                       const T* dc, const T* dh, T* dc_prev, T* dx, long long count,
                       long long hidden) {
  FOR_EACH(at, count) {
    const long long stream = at / hidden;
    const long long first = 3 * stream * hidden + at;
    const Gates now = gates_of(x, cont[stream], first, hidden);
    const Back back = unit_back(now, c_prev[at], c[at], dc[at], dh[at]);
    if (dc_prev) dc_prev[at] = T(back.c);
    if (dx) {
      dx[first] = T(back.i);
      dx[first + hidden] = T(back.f);
      dx[first + 2 * hidden] = T(back.o);
      dx[first + 3 * hidden] = T(back.g);
    }
  }
}
