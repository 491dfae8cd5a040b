// The same light call for k6, ended by its thresholds; TARGET, PASSWORD, RATE and DURATION come from the environment.
import http from 'k6/http';

const json = { 'Content-Type': 'application/json' };
const body = JSON.stringify({ name: 'bench', steps: [{ type: 'ai_task', prompt: 'How long', use_specialized_model: true }] });

export const options = {
  discardResponseBodies: true,
  scenarios: {
    main: {
      executor: 'constant-arrival-rate', rate: Number(__ENV.RATE), timeUnit: '1s', duration: __ENV.DURATION,
      preAllocatedVUs: 100, maxVUs: 200,
    },
  },
  thresholds: {
    http_req_duration: [{ threshold: 'p(95)<200', abortOnFail: true }],
    http_req_failed: [{ threshold: 'rate<0.01', abortOnFail: true }],
  },
};

export function setup() {
  const login = http.post(`${__ENV.TARGET}/api/auth/login`,
    JSON.stringify({ username: 'user-1', password: __ENV.PASSWORD }), { headers: json, responseType: 'text' });
  return { ...json, Authorization: `Bearer ${login.json('access_token')}` };
}

export default function (headers) {
  http.post(`${__ENV.TARGET}/api/workflows`, body, { headers });
}
