/** Files to try the page with: made here, so that nobody has to look for some. */

const MB = 1_000_000;
/** What the browser gives at once at most. */
const RANDOM_BLOCK = 65_536;

export function sampleFiles(): File[] {
  return [
    textFile("samples/read me.txt", "These files were made by your browser to try Haulyard with.\n"),
    textFile("samples/measurements.csv", measurements(40_000)),
    ...[3, 6, 12, 24].map((size, index) => noiseFile(`samples/noise/${index + 1}.bin`, size * MB)),
  ];
}

function textFile(name: string, text: string): File {
  return new File([text], name, { type: "text/plain" });
}

function measurements(rows: number): string {
  const lines = Array.from({ length: rows }, (_, row) => `${row},${Math.sin(row / 50).toFixed(6)}`);
  return `row,value\n${lines.join("\n")}\n`;
}

/** Bytes that do not compress: one random block over and over, each time with another number in front. */
function noiseFile(name: string, size: number): File {
  const block = crypto.getRandomValues(new Uint8Array(RANDOM_BLOCK));
  const blocks: BlobPart[] = [];
  for (let left = size, number = 0; left > 0; left -= RANDOM_BLOCK, number += 1) {
    const copy = block.slice(0, Math.min(left, RANDOM_BLOCK));
    copy.set(new TextEncoder().encode(`${number} `));
    blocks.push(copy);
  }
  return new File(blocks, name);
}
