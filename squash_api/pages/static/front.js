"use strict";

squashLive(async (job) => {
  await squashReplace();
  squashNote(`Job ${job.job} arrived with ${job.metrics} ${job.metrics === 1 ? "metric" : "metrics"}.`);
});

/* A value can become late without a new job. */
setInterval(() => {
  if (!document.hidden) {
    squashReplace().catch(() => {});
  }
}, 60000);
