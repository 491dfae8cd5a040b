// The four-step workflow and the single GET for k6; TARGET, SHAPE, RATE and USERS come from the environment.
import http from 'k6/http';
import { check } from 'k6';

const target = __ENV.TARGET;
const users = Number(__ENV.USERS || 50);
const json = { 'Content-Type': 'application/json' };
let headers = null;

export const options = {
  discardResponseBodies: false,
  summaryTrendStats: ['count', 'p(50)', 'p(90)', 'p(95)', 'p(99)', 'p(99.9)'],
  scenarios: {
    main: __ENV.RATE
      ? {
          executor: 'constant-arrival-rate', rate: Number(__ENV.RATE), timeUnit: '1s', duration: __ENV.DURATION,
          preAllocatedVUs: users, maxVUs: users, exec: __ENV.SHAPE,
        }
      : { executor: 'constant-vus', vus: users, duration: __ENV.DURATION, exec: __ENV.SHAPE },
  },
};

export function one() {
  check(http.get(`${target}/one`), { answered: (r) => r.status === 200 });
}

export function workflow() {
  if (headers === null) {
    const login = http.post(`${target}/sessions`, JSON.stringify({ username: `user-${__VU}`, password: 'right' }),
      { headers: json });
    check(login, { 'signed in': (r) => r.status === 200 });
    headers = { ...json, Authorization: `Bearer ${login.json('access_token')}` };
  }
  const job = http.post(`${target}/jobs`, JSON.stringify({ model: 'small', input: `text of ${__ITER}` }), { headers });
  check(job, { created: (r) => r.status === 201 });
  const id = job.json('id');
  const run = http.post(`${target}/jobs/${id}/runs`, JSON.stringify({ priority: 'high' }), { headers });
  check(run, { queued: (r) => r.status === 202 });
  const done = http.get(`${target}/jobs/${id}`, { headers });
  check(done, { done: (r) => r.status === 200 && r.json('state') === 'done' });
}
