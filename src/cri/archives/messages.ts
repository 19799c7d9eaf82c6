/** Messages of proto/archives/v1/archives.proto as the loader makes them. */
export interface ImportRequest {
  readonly archive: string;
  readonly tag: string;
  readonly data: Uint8Array;
}

export interface ImportedImage {
  readonly id: string;
  readonly tags: readonly string[];
}

export interface ImportResponse {
  readonly images: readonly ImportedImage[];
}

export interface ExportRequest {
  readonly image: string;
  readonly format: string;
}

export interface ExportResponse {
  readonly data: Uint8Array;
}
