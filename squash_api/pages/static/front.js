"use strict";

squashLive(async (job) => {
  await squashReplace();
  squashNote(`Job ${job.job} has come, with ${job.metrics} ${job.metrics === 1 ? "metric" : "metrics"}.`);
});

/* What is late becomes so without a job. */
setInterval(() => {
  if (!document.hidden) {
    squashReplace().catch(() => {});
  }
}, 60000);
